"""The pages: `/`, the studio, and `/docs`, the API's document. They load nothing from elsewhere."""

import asyncio
import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from fastapi.openapi.docs import get_swagger_ui_html

from service.api.caching import encoded_reply, holds
from service.call import Call, Reply
from service.packed import Packed, pack
from service.problems import Problem

HTML = "text/html; charset=utf-8"
BUILT = Path(__file__).resolve().parents[1] / "ui"  # by studio/build.mjs
ASSETS = {"app.js": "text/javascript; charset=utf-8", "app.css": "text/css; charset=utf-8"}
LEVEL = 9
STATIC = "/static-offline-docs"
# A page may not be put into another one, and runs its own scripts alone: those of the service, or of this very text.
POLICY = (
    "default-src 'none'; script-src 'self' {scripts}; style-src 'self' {styles}; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


async def studio(call: Call) -> Reply:
    """The studio; what it shows it asks for with the reader's key."""
    return _page((BUILT / "index.html").read_text(encoding="utf-8"))


async def explorer(call: Call) -> Reply:
    """Leads addresses of the page before the studio to what shows the same."""
    query = call.scope["query_string"].decode("latin-1")
    place = f"{call.runtime.settings.root_path}/" + (f"?{query}" if query else "")
    return Reply(b"", "", 307, {"location": place})


async def asset(call: Call) -> Reply:
    """A file of the studio, compressed where the client takes that; 304 where it has it."""
    name = call.ids["file"]
    if name not in ASSETS:
        raise Problem("not_found", "no such path")
    packed = await asyncio.to_thread(_packed, name)
    etag = _etag(name)
    headers = {"etag": f'"{etag}"', "cache-control": "no-cache", "vary": "accept-encoding"}
    if holds(call, etag):
        return Reply(b"", status=304, headers=headers)
    return encoded_reply(call, packed, ASSETS[name], headers)


@cache
def _packed(name: str) -> Packed:
    return pack((BUILT / name).read_bytes(), LEVEL)


@cache
def _etag(name: str) -> str:
    return hashlib.sha256(_packed(name).plain).hexdigest()[:32]


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
