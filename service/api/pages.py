"""The pages: `/`, the studio, and `/docs`, the API's document. They load nothing from elsewhere."""

import asyncio
import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import fastapi_offline
from fastapi.openapi.docs import get_swagger_ui_html

from service.api.caching import encoded_reply, holds
from service.call import Call, Reply
from service.packed import Packed, pack
from service.problems import Problem

HTML = "text/html; charset=utf-8"
SCRIPT, STYLE = "text/javascript; charset=utf-8", "text/css; charset=utf-8"
BUILT = Path(__file__).resolve().parents[1] / "ui"  # by studio/build.mjs
ASSETS = {"app.js": SCRIPT, "app.css": STYLE}
# Swagger's, from a package: many networks that run services do not reach a public one.
SWAGGER = Path(fastapi_offline.__file__).parent / "static"
SWAGGER_ASSETS = {"swagger-ui-bundle.js": SCRIPT, "swagger-ui.css": STYLE, "favicon.png": "image/png"}
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
    return await _asset(call, BUILT, ASSETS)


async def documents_asset(call: Call) -> Reply:
    """A file of `/docs`, as of the studio."""
    return await _asset(call, SWAGGER, SWAGGER_ASSETS)


async def _asset(call: Call, folder: Path, types: Mapping[str, str]) -> Reply:
    name = call.ids["file"]
    if name not in types:
        raise Problem("not_found", "no such path")
    packed, etag = await asyncio.to_thread(_packed, folder / name)
    headers = {"etag": f'"{etag}"', "cache-control": "no-cache", "vary": "accept-encoding"}
    if holds(call, etag):
        return Reply(b"", status=304, headers=headers)
    return encoded_reply(call, packed, types[name], headers)


@cache
def _packed(path: Path) -> tuple[Packed, str]:
    """The file, and its ETag."""
    plain = path.read_bytes()
    return pack(plain, LEVEL), hashlib.sha256(plain).hexdigest()[:32]


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
