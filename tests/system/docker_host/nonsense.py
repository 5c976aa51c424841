"""A dockerd that is none: nonsense.py SOCKET MODE NETWORK CONTAINER, which it has and makes no sense of."""

import os
import socket
import sys
import threading

PATH, MODE, NETWORK, CONTAINER = sys.argv[1:]
ANSWERS = {
    "/version": '{"Version": "99.9", "ApiVersion": "1.43", "MinAPIVersion": "1.12"}',
    "/info": "{}",
    "/networks/": '{"Id": "%s", "Name": "front", "Driver": "bridge", "IPAM": {"Config": [{"Subnet": "none"}]}}' % NETWORK,
    "/networks": '[{"Id": "%s", "Name": "front", "Driver": "bridge"}, {"Id": "../../etc"}]' % NETWORK,
    "/containers/json": '[{"Id": "%s"}, {"Id": "x"}]' % CONTAINER,
    "/containers/": '{"Id": 7, "State": "yes"}',
}


def answer(line):
    body = next((body for path, body in ANSWERS.items() if path in line), "{}")
    status = "500 No" if MODE == "errors" else "200 OK"
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def serve(client):
    while MODE != "close":
        request = b""
        while b"\r\n\r\n" not in request:
            received = client.recv(4096)
            if not received:
                return
            request += received
        line = request.split(b"\r\n")[0].decode()
        print(line, flush=True)
        if MODE == "garbage":
            client.sendall(b"\x00\xff\x00 not HTTP at all\r\n\r\n" * 100)
        elif MODE != "silence" and "/events" not in line:
            client.sendall(answer(line))
    client.close()


if os.path.exists(PATH):
    os.unlink(PATH)
server = socket.socket(socket.AF_UNIX)
server.bind(PATH)
server.listen(64)
print("listens", flush=True)
while True:
    connection = server.accept()[0]
    print("called", flush=True)
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
