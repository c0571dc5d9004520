// What the searchers that a build tried find and cost: recall against time, one line for each kind.
import type { Index } from "../api";
import { Curves } from "../curves";
import { fixed } from "../format";

const COLOURS = ["#3d7de0", "#c2741f", "#26a069", "#af52ca", "#d23f4f", "#0096aa"];

export function Tradeoff({ type, index }: { type: string; index: Index }) {
  const tried = index.tried ?? [];
  if (tried.length < 2) return null;
  const kinds = [...new Set(tried.map((one) => one.kind))];
  const taken = tried.find((one) => one.taken);
  return (
    <div class="tradeoff">
      <Curves title={`${type}: recall against CPU µs a query`} x="CPU µs a query" lines={[
        ...kinds.map((kind, i) => ({
          label: kind, colour: COLOURS[i % COLOURS.length]!,
          points: tried.filter((one) => one.kind === kind).map((one) => [one.cpu_us_per_query, one.recall] as [number, number]),
        })),
        ...(taken ? [{ label: "taken", colour: "#c81e5a", points: [[taken.cpu_us_per_query, taken.recall] as [number, number]], alone: true }] : []),
      ]} />
      <details>
        <summary class="small">{tried.length} searchers as a table</summary>
        <table>
          <thead><tr><th>kind</th><th class="number">depth</th><th class="number">recall</th><th class="number">CPU µs</th><th class="number">bytes a vector</th></tr></thead>
          <tbody>{tried.map((one, i) => (
            <tr key={i}><td>{one.kind}{one.taken && <span class="badge same">taken</span>}</td><td class="number">{one.depth}</td><td class="number">{fixed(one.recall, 4)}</td>
              <td class="number">{fixed(one.cpu_us_per_query, 1)}</td><td class="number">{fixed(one.bytes_per_vector, 0)}</td></tr>
          ))}</tbody>
        </table>
      </details>
    </div>
  );
}
