"""A routing table -> nginx's configuration: a tree of directives, and one serializer that quotes every argument."""
