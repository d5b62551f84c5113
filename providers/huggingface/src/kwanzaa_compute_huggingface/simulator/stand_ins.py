"""What stands in, on this machine, for the programs of somebody else's image."""

AUTOTRAIN = '''#!/usr/bin/env python3
"""Plays the program of AutoTrain's image: answers its port, says what it was asked, and pauses."""
import http.server, json, os, threading, time, urllib.request

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"AutoTrain")
    def log_message(self, *words): pass

where = (os.environ["HOST"], int(os.environ["PORT"]))
server = http.server.ThreadingHTTPServer(where, Page)
threading.Thread(target=server.serve_forever, daemon=True).start()
params = json.loads(os.environ["PARAMS"])
print("hello", flush=True)
print("training", params["model"], "on", params["data_path"], flush=True)
time.sleep(float(os.environ.get("AUTOTRAIN_STAND_IN_S", "600")))
pause = "@HUB@/api/spaces/" + os.environ["SPACE_ID"] + "/pause"
bearer = {"Authorization": "Bearer " + os.environ["HF_TOKEN"]}
urllib.request.urlopen(urllib.request.Request(pause, b"", bearer, method="POST"), timeout=20)
time.sleep(60)
'''
NOTHING = "#!/bin/sh\nexit 0\n"


def stand_ins(base: str, hub: str) -> dict[str, bytes]:
    """Programs for a container of this base image, by their place below its home.

    `hub` is the address of the simulated Hub that they are on.
    """
    if not base.startswith("huggingface/autotrain-advanced"):
        return {}
    # Its command begins with `pip uninstall`, which must never reach the Python that runs us.
    return {"bin/pip": NOTHING.encode(), "bin/autotrain": AUTOTRAIN.replace("@HUB@", hub).encode()}
