// A line chart over time, by uPlot, in the page's colours.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";

export interface Line { label: string; colour: string; values: (number | null)[] }
interface Props { title: string; times: number[]; lines: Line[]; unit?: string; points?: boolean; seconds?: number; least?: number }

export const HEIGHT = 170;

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** An axis in the page's own colours, light or dark. */
export function axisOf(element: HTMLElement) {
  return { stroke: getComputedStyle(element).color, grid: { stroke: "#8883", width: 1 }, ticks: { stroke: "#8883" }, font: "12px system-ui" };
}

export function Chart({ title, times, lines, unit = "", points = false, seconds, least = 1e-9 }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot>(undefined);
  const shape = lines.map((line) => line.label).join("|");

  useEffect(() => {
    const element = place.current!;
    const axis = axisOf(element);
    const made = new uPlot({
      width: element.clientWidth || 300, height: HEIGHT,
      cursor: { y: false },
      legend: { live: false },
      axes: [{ ...axis, space: 90, values: (_, moments) => moments.map((one) => (seconds ? clock : day).format(1000 * one)) }, { ...axis, size: 66, values: (_, values) => values.map((one) => `${one}${unit}`) }],
      scales: { ...(seconds ? { x: { range: (_: uPlot, __: number, last: number | null) => { const end = last ?? Date.now() / 1000; return [end - seconds, end] as [number, number]; } } } : {}), y: { range: (_, low, high) => [Math.min(0, low ?? 0), Math.max((high ?? 0) * 1.1, least)] } },
      series: [{}, ...lines.map((line) => ({ label: line.label, stroke: line.colour, width: 2, points: { show: points }, value: (_: uPlot, one: number | null) => (one == null ? "–" : `${Math.round(one * 1000) / 1000}${unit}`) }))],
    }, [times, ...lines.map((line) => line.values)] as uPlot.AlignedData, element);
    chart.current = made;
    const watch = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    watch.observe(element);
    return () => { watch.disconnect(); made.destroy(); };
  }, [shape]);
  useEffect(() => chart.current?.setData([times, ...lines.map((line) => line.values)] as uPlot.AlignedData), [times, lines]);

  const last = lines.map((line) => `${line.label} ${Math.round((line.values.at(-1) ?? 0) * 1000) / 1000}${unit}`).join(", ");
  return <figure class="chart"><figcaption>{title}</figcaption><div ref={place} role="img" aria-label={`${title}: ${last}`} /></figure>;
}
