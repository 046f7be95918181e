"""A small web server for machines without nginx, so that a lab has pods there, too.

Run as a script (`python -I -S page.py NAME PORT ADDRESS...`), so it imports the standard library only.
It answers every GET on every address with a page that says what it is and what it is not.
"""

from __future__ import annotations

import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

__all__: list[str] = []

_PAGE = "<!DOCTYPE html>\n<title>lbcore lab</title>\n<h1>Hello from {name}</h1>\n<p>nginx is not installed here.</p>\n"


def _server(name: str, address: str, port: int) -> ThreadingHTTPServer:
    body = _PAGE.format(name=name).encode()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Served-By", name)
            self.end_headers()
            self.wfile.write(body)

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        daemon_threads = True

        def server_bind(self) -> None:
            # HTTPServer's own asks name servers for our name: where none answers that takes ten seconds.
            TCPServer.server_bind(self)
            self.server_name, self.server_port = address, port

    return Server((address, port), Page)


def main(name: str, port: str, *addresses: str) -> None:
    """Serve the page until killed."""
    servers = [_server(name, address, int(port)) for address in addresses]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
