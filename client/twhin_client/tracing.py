"""The W3C context of the caller's trace, sent along where the application traces with OpenTelemetry."""

import sys
from collections.abc import Mapping

NOTHING: Mapping[str, str] = {}


def trace_context() -> Mapping[str, str]:
    """The headers that join a request to the span it is made in; none without one.

    Where nobody has imported OpenTelemetry there is no span: that is all that is looked at then.
    """
    trace = sys.modules.get("opentelemetry.trace")
    current = getattr(trace, "get_current_span", None)
    if current is None:
        return NOTHING
    context = current().get_span_context()
    if not context.is_valid:
        return NOTHING
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
    state = context.trace_state.to_header()
    return {"traceparent": parent, "tracestate": state} if state else {"traceparent": parent}
