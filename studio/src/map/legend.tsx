// What the colours on the map mean.
import { NONE, css, ramp } from "../colours";
import { compact, measure } from "../format";
import type { Layer } from "./data";
import type { Colouring } from "./paint";

export function Legend({ colours, by, layers }: { colours: Colouring; by: string; layers: Layer[] }) {
  const grey = <i class="dot" style={{ background: css(NONE) }} />;
  if (by === "type") return null;
  if (by === "cluster") {
    return layers.some((one) => one.kind === "unknown") ? <p class="soft small">{grey} types that were not clustered</p> : null;
  }
  const { values, other, none, scales } = colours;
  return (
    <div class="meaning" aria-label="What the colours mean" role="group">
      {values.length > 0 && (
        <ul class="legend">
          {values.map((one) => <li key={one.value}><i class="dot" style={{ background: one.colour }} /><bdi>{one.value}</bdi> <span class="soft small">{compact(one.count)}</span></li>)}
        </ul>
      )}
      {scales.map(({ type, kind, quantiles }) => (
        <div key={type} class="scale">
          {scales.length > 1 && <span class="soft small">{type}</span>}
          <i style={{ background: ramp }} />
          <span class="row spread small"><span>{measure(quantiles[0]!, kind)}</span><span title="half have less, half have more">{measure(quantiles[2]!, kind)}</span><span>{measure(quantiles[4]!, kind)}</span></span>
        </div>
      ))}
      {(other > 0 || none) && <p class="soft small">{grey} {[other > 0 ? `${compact(other)} other values` : "", none ? "no value" : ""].filter(Boolean).join(", ")}</p>}
    </div>
  );
}
