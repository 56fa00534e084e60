"""A TCP relay that lets bytes through slowly in one direction: a warehouse at the end of a thin line."""

import socket
import threading
import time


class Relay:
    """Listens on a port of its own; at most `bytes_a_second` towards the server, over all connections."""

    def __init__(self, port, bytes_a_second):
        self.to, self.rate = port, bytes_a_second
        self.lock, self.free_at = threading.Lock(), 0.0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            # Small buffers, so that what waits does so in the program under test.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            server = socket.create_connection(("127.0.0.1", self.to))
            for pair in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source, target, slowly):
        try:
            while piece := source.recv(16384):
                if slowly:
                    self._wait(len(piece))
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _wait(self, length):
        with self.lock:
            now = time.monotonic()
            self.free_at = max(self.free_at, now) + length / self.rate
            pause = self.free_at - now
        time.sleep(pause)
