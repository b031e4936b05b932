"""A small paginated REST source for the compose file: GET /v1/visits?offset=0&limit=10."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

VISITS = [{"customer": 1 + n % 4, "article": 10 + n % 3, "seconds": 5 * n} for n in range(57)]


class Visits(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlparse(self.path)
        if url.path != "/v1/visits":
            self.send_error(404)
            return
        asked = parse_qs(url.query)
        offset = int(asked.get("offset", ["0"])[0])
        limit = max(1, min(int(asked.get("limit", ["10"])[0]), 100))
        body = json.dumps({"rows": VISITS[offset : offset + limit], "total": len(VISITS)}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8080), Visits).serve_forever()
