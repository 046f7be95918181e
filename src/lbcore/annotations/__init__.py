"""What a user wrote in annotations and in the controller's ConfigMap -> closed types.

One file for each noun; `table` joins them. Everything is total: whatever stands in a value, the outcome
is a typed value or a finding. Nothing of a value that was not understood goes any further.
"""
