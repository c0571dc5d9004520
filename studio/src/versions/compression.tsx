// What fewer bytes of a vector lose, as the build measured it: the codes that it might have taken, and rows of half and whole numbers.
import type { Compression, VersionItem } from "../api";
import { Curves } from "../curves";
import { fixed, percent } from "../format";

const NAMES = { pq: "codes (PQ)", float16: "float16", int8: "int8" };
const FLOAT_BYTES = 4;

export function CompressionCurves({ of }: { of: VersionItem }) {
  const space = Object.values(of.spaces ?? {})[0];
  if (!space || !Object.keys(space.compression).length) return null;
  return (
    <section class="card" id="compression" aria-label="Compression">
      <table class="compressed">
        <caption>Compressed features</caption>
        <thead><tr><th>type</th><th class="number">bytes a vector</th><th class="number">times smaller</th><th class="number">cosine to the original</th></tr></thead>
        <tbody>{Object.entries(space.compression).map(([type, one]) => (
          <tr key={type}><td>{type}</td><td class="number">{one.subquantizers}</td><td class="number">{fixed(one.ratio, 1)}</td><td class="number">{fixed(one.cosine, 3)}</td></tr>
        ))}</tbody>
      </table>
      <div class="charts">{Object.entries(space.compression).map(([type, one]) => <Curve key={type} type={type} of={one} dim={space.dim} />)}</div>
      <Unmeasured of={space.compression} />
      <p class="soft small">“Nearest ten that stay”: of a vector's ten nearest in a sample, how many are still among them when the vectors are read back from so few bytes.
        What a size costs a task of yours, <code>twhin evaluate compression</code> measures.</p>
    </section>
  );
}

/** Why a type has no curve, where one has none. */
function Unmeasured({ of }: { of: Record<string, Compression> }) {
  const without = Object.entries(of).filter(([, one]) => !one.tried.length).map(([type]) => type);
  if (!without.length) return null;
  return <p class="soft small unmeasured">Of {without.join(" and ")} no other sizes were measured: there are fewer than 1,000, or the version was built under a limit on memory, or before builds measured any.</p>;
}

function Curve({ type, of, dim }: { type: string; of: Compression; dim: number }) {
  if (!of.tried.length) return null;
  const points = (which: (one: Compression["tried"][number]) => boolean) => of.tried.filter(which).map((one) => [one.bytes_per_vector, one.neighbours] as [number, number]);
  return (
    <div class="tradeoff">
      <Curves title={`${type}: nearest ten that stay against bytes a vector`} x={`bytes a vector (${FLOAT_BYTES * dim} as float32)`} lines={[
        { label: NAMES.pq, colour: "#3d7de0", points: points((one) => one.kind === "pq") },
        { label: "int8", colour: "#c2741f", points: points((one) => one.kind === "int8"), alone: true },
        { label: "float16", colour: "#26a069", points: points((one) => one.kind === "float16"), alone: true },
        { label: "taken", colour: "#c81e5a", points: points((one) => one.taken), alone: true },
      ].filter((line) => line.points.length > 0)} />
      <details>
        <summary class="small">{of.tried.length} forms as a table</summary>
        <table>
          <thead><tr><th>form</th><th class="number">bytes a vector</th><th class="number">cosine</th><th class="number">nearest ten that stay</th></tr></thead>
          <tbody>{of.tried.map((one, i) => (
            <tr key={i}><td>{NAMES[one.kind]}{one.taken && <span class="badge same">taken</span>}</td><td class="number">{fixed(one.bytes_per_vector, 0)}</td>
              <td class="number">{fixed(one.cosine, 4)}</td><td class="number">{percent(one.neighbours, 1)}</td></tr>
          ))}</tbody>
        </table>
      </details>
    </div>
  );
}
