"""OHIF as its users open it: its built viewer beside Orthanc's DICOMweb, under one address."""

from __future__ import annotations

import os
import shutil
import threading
import urllib.error
import urllib.request
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NoReturn

import pytest

PACKAGE = "@ohif/app@3.13.2"
FOLDER_VARIABLE = "OHIF_DIST"
CONFIGURATION = """
const pacs = location.origin + '/dicom-web';
window.config = {
  routerBasename: '/', extensions: [], modes: [], showStudyList: false, maxNumberOfWebWorkers: 1,
  showWarningMessageForCrossOrigin: false, showCPUFallbackMessage: false, strictZSpacingForVolumeViewport: true,
  investigationalUseDialog: {option: 'never'}, autoCineModalities: [],
  defaultDataSourceName: 'pacs',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'pacs',
    configuration: {
      friendlyName: 'PACS', name: 'pacs', wadoUriRoot: pacs, qidoRoot: pacs, wadoRoot: pacs,
      imageRendering: 'wadors', thumbnailRendering: 'wadors', qidoSupportsIncludeField: false,
      enableStudyLazyLoad: true, supportsFuzzyMatching: false, supportsWildcard: true, omitQuotationForMultipartRequest: true,
      bulkDataURI: {enabled: true, relativeResolution: 'studies'},
    },
  }],
};
"""


def built_viewer() -> Path:
    """Folder of the built viewer; without it the test fails in CI and is skipped elsewhere."""
    named = os.environ.get(FOLDER_VARIABLE, "")
    if not named or not (Path(named) / "index.html").is_file():
        lacking(
            f"{FOLDER_VARIABLE} names no built OHIF (npm pack {PACKAGE}, unpack it: its folder package/dist)"
        )
    return Path(named)


def chromium() -> str:
    """Path of the browser; Debian's is a script that starts it."""
    return shutil.which("chromium") or lacking("chromium is not installed (apt-get install chromium)")


def lacking(reason: str) -> NoReturn:
    """Fail in CI, skip elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class _Handler(SimpleHTTPRequestHandler):
    """Files of the viewer; what it asks of the PACS goes to Orthanc, and any other path is a page of the viewer."""

    pacs = ""

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/dicom-web/"):
            self._ask_pacs()
        elif path == "/app-config.js":
            self._answer(200, "text/javascript", CONFIGURATION.encode())
        else:
            if not Path(self.translate_path(path)).is_file():
                self.path = "/index.html"
            super().do_GET()

    def _ask_pacs(self) -> None:
        kept = {name: self.headers[name] for name in ("Accept", "Host") if name in self.headers}
        request = urllib.request.Request(self.pacs + self.path, headers=kept)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                self._answer(answer.status, answer.headers["Content-Type"], answer.read())
        except urllib.error.HTTPError as error:
            with error:
                self._answer(error.code, "text/plain", error.read())

    def _answer(self, status: int, kind: str | None, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind or "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the page's own complaints are what a test reads."""


class OhifServer:
    """Serves the viewer on a free loopback port."""

    def __init__(self, folder: Path, orthanc_port: int) -> None:
        class Handler(_Handler):
            pacs = f"http://127.0.0.1:{orthanc_port}"

            def __init__(self, *args: object, **keywords: object) -> None:
                super().__init__(*args, directory=str(folder), **keywords)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
