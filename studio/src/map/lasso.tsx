// A free-hand line around an area; what lies within becomes a list.
import { useRef, useState } from "preact/hooks";

export function Lasso({ onDone, onCancel }: { onDone: (line: number[]) => void; onCancel: () => void }) {
  const line = useRef<number[]>([]);
  const [path, setPath] = useState("");

  function add(event: PointerEvent & { currentTarget: SVGSVGElement }) {
    const box = event.currentTarget.getBoundingClientRect();
    line.current.push(event.clientX - box.left, event.clientY - box.top);
    setPath(`M${line.current.join(" ")}`);
  }

  return (
    <svg class="lasso" aria-hidden="true"
      onPointerDown={(event) => { line.current = []; event.currentTarget.setPointerCapture(event.pointerId); add(event); }}
      onPointerMove={(event) => { if (line.current.length) add(event); }}
      onPointerUp={() => { if (line.current.length >= 6) onDone(line.current); else onCancel(); line.current = []; }}
      onPointerCancel={onCancel}>
      <path d={path} />
    </svg>
  );
}
