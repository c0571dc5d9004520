// A long list of which only the rows in sight exist.
import type { ComponentChildren } from "preact";
import { useMemo, useState } from "preact/hooks";

const ROW = 36;
const SPARE = 6;

interface Props { total: number; height: number; label: string; row: (index: number) => ComponentChildren }

export function VirtualList({ total, height, label, row }: Props) {
  const [top, setTop] = useState(0);
  const first = Math.max(0, Math.floor(top / ROW) - SPARE);
  const last = Math.min(total, Math.ceil((top + height) / ROW) + SPARE);
  const shown = Array.from({ length: Math.max(0, last - first) }, (_, i) => first + i);
  return (
    <div class="virtual" tabIndex={0} role="list" aria-label={label} style={{ maxHeight: `${height}px` }}
      onScroll={(event) => setTop(event.currentTarget.scrollTop)}>
      <div role="presentation" style={{ height: `${total * ROW}px` }}>
        <div role="presentation" style={{ transform: `translateY(${first * ROW}px)` }}>
          {shown.map((i) => (
            <div role="listitem" key={i} class="virtual-row" aria-setsize={total} aria-posinset={i + 1}>{row(i)}</div>
          ))}
        </div>
      </div>
    </div>
  );
}

/** What the rows of the list `of` hold: a function of their numbers, which asks for a page of `size` rows when the first of them is wanted.
 *  Two pages may be in sight at once, so that none waits for another, and none is asked for twice unless it failed. */
export function usePages<Item>(of: unknown, size: number, load: (from: number) => Promise<(readonly [number, Item])[]>, given: Item[] = []): (i: number) => Item | undefined {
  const list = useMemo(() => ({ rows: new Map(given.map((one, i) => [i, one])), asked: new Set(given.length ? [0] : []) }), [of]);
  const [, draw] = useState({});
  return (i) => {
    const from = Math.floor(i / size) * size;
    if (!list.rows.has(i) && !list.asked.has(from)) {
      list.asked.add(from);
      load(from).then((found) => {
        for (const [at, one] of found) list.rows.set(at, one);
        draw({});
      }).catch(() => list.asked.delete(from));
    }
    return list.rows.get(i);
  };
}
