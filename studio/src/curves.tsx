// Curves of points over a scale of their own, by uPlot: recall against cost and the like.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { HEIGHT, axisOf } from "./chart";

export interface Curve { label: string; colour: string; points: [x: number, y: number][]; alone?: boolean }

export function Curves({ title, x, lines }: { title: string; x: string; lines: Curve[] }) {
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = place.current!;
    const xs = [...new Set(lines.flatMap((line) => line.points.map(([one]) => one)))].sort((a, b) => a - b);
    const columns = lines.map((line) => {
      const at = new Map(line.points);
      return xs.map((one) => at.get(one) ?? null);
    });
    const axis = axisOf(element);
    const made = new uPlot({
      width: element.clientWidth || 300, height: HEIGHT + 40,
      cursor: { y: false },
      scales: { x: { time: false, distr: 3 }, y: { range: (_, low, high) => { const room = Math.max(0.002, (high - low) * 0.1); return [low - room, Math.min(1, high + room)]; } } },
      axes: [{ ...axis, label: x, labelSize: 18, labelFont: axis.font, values: (_, values) => values.map((one) => (one == null ? "" : String(Number(one.toPrecision(3))))) }, { ...axis, size: 60 }],
      series: [
        { label: x, value: (_, one) => (one == null ? "–" : String(Number(one.toPrecision(3)))) },
        ...lines.map((line) => ({ label: line.label, stroke: line.colour, fill: line.alone ? line.colour : undefined, width: line.alone ? 0 : 2, spanGaps: true, points: { show: true, size: line.alone ? 12 : 6, fill: line.alone ? line.colour : undefined, stroke: line.colour },
          value: (_: uPlot, one: number | null) => (one == null ? "–" : String(Math.round(one * 1e4) / 1e4)) } as uPlot.Series)),
      ],
    }, [xs, ...columns] as uPlot.AlignedData, element);
    const watch = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT + 40 }));
    watch.observe(element);
    return () => { watch.disconnect(); made.destroy(); };
  }, [JSON.stringify(lines)]);
  const said = lines.map((line) => `${line.label}: ${line.points.map(([a, b]) => `${Math.round(b * 1e4) / 1e4} at ${Number(a.toPrecision(3))}`).join(", ")}`).join("; ");
  return <figure class="chart"><figcaption>{title}</figcaption><div ref={place} role="img" aria-label={`${title}. ${said}`} /></figure>;
}
