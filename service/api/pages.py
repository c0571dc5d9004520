"""The pages: `/ui`, the explorer, and `/docs`, the API's document. They load nothing from elsewhere."""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from fastapi.openapi.docs import get_swagger_ui_html

from service.call import Call, Reply

HTML = "text/html; charset=utf-8"
EXPLORER = Path(__file__).resolve().parents[1] / "ui" / "index.html"
STATIC = "/static-offline-docs"
# A page may not be put into another one, and runs its own scripts alone: those of the service, or of this very text.
POLICY = (
    "default-src 'none'; script-src 'self' {scripts}; style-src 'self' {styles}; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


async def root(call: Call) -> Reply:
    """Leads to the explorer."""
    return Reply(b"", "", 307, {"location": f"{call.runtime.settings.root_path}/ui"})


async def explorer(call: Call) -> Reply:
    """The explorer; what it shows it asks for with the reader's key."""
    return _page(EXPLORER.read_text(encoding="utf-8"))


async def documents(call: Call) -> Reply:
    """Swagger's page of `/openapi.json`."""
    return _documents(call.runtime.settings.root_path)


@cache
def _documents(prefix: str) -> Reply:
    page = get_swagger_ui_html(
        openapi_url=f"{prefix}/openapi.json",
        title="twhin",
        swagger_js_url=f"{prefix}{STATIC}/swagger-ui-bundle.js",
        swagger_css_url=f"{prefix}{STATIC}/swagger-ui.css",
        swagger_favicon_url=f"{prefix}{STATIC}/favicon.png",
    )
    # Swagger's script writes styles into its elements.
    return _page(bytes(page.body).decode(), styles="'unsafe-inline'")


def _page(text: str, styles: str | None = None) -> Reply:
    scripts = _digests("script", text)
    policy = POLICY.format(scripts=scripts, styles=_digests("style", text) if styles is None else styles)
    headers = {"content-security-policy": policy, "x-frame-options": "DENY", "referrer-policy": "no-referrer"}
    return Reply(text.encode(), HTML, headers=headers)


def _digests(tag: str, text: str) -> str:
    """The digests of what stands between the tags themselves, as a policy names them."""
    parts = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" for part in parts)
