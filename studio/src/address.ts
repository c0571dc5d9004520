// What the page shows is in its address: every choice is a parameter, so that links and Back work.
import { useEffect, useState } from "preact/hooks";

export type View = "map" | "ask" | "versions" | "health";
export const VIEWS: View[] = ["map", "ask", "versions", "health"];
export type State = Record<string, string | string[] | undefined>;

const listeners = new Set<() => void>();
const changed = () => listeners.forEach((listener) => listener());
addEventListener("popstate", changed);

export function read(): URLSearchParams {
  return new URLSearchParams(location.search);
}

/** The address with some parameters changed; `undefined` and "" take one away. */
export function address(changes: State): string {
  const next = read();
  for (const [name, value] of Object.entries(changes)) {
    next.delete(name);
    for (const one of Array.isArray(value) ? value : [value]) if (one !== undefined && one !== "") next.append(name, one);
  }
  const text = next.toString();
  return text ? `?${text}` : location.pathname;
}

export function go(changes: State, how: "push" | "replace" = "push"): void {
  const next = address(changes);
  if (next === location.search) return;
  if (how === "push") history.pushState(null, "", next);
  else history.replaceState(null, "", next);
  changed();
}

export function useAddress(): URLSearchParams {
  const [query, set] = useState(read);
  useEffect(() => {
    const listener = () => set(read());
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }, []);
  return query;
}

export function viewOf(query: URLSearchParams): View {
  const asked = query.get("view");
  if (asked !== null && (VIEWS as string[]).includes(asked)) return asked as View;
  return query.has("user") || query.has("id") ? "ask" : "map";
}

/** Click handler of an inner link: follows it without loading the page; other buttons and keys are the browser's. */
export function follow(changes: State) {
  return (event: MouseEvent) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    go(changes);
  };
}
