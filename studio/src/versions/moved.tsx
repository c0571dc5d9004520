// How far a version's vectors moved since the one it was warm started from.
import type { VersionItem } from "../api";
import { count, fixed, percent } from "../format";

export function Drift({ of }: { of: VersionItem }) {
  const drift = of.evaluation?.drift;
  if (!drift) return null;
  return (
    <section class="card" id="drift" aria-label="Drift">
      <table>
        <caption>Drift: how far vectors moved since {drift.since}</caption>
        <thead><tr><th>type</th><th class="number">kept</th><th class="number extra">new</th><th class="number extra">gone</th><th class="number">cosine, old to new</th><th class="number">nearest ten that stayed</th><th class="number">changed their cluster</th></tr></thead>
        <tbody>{Object.entries(drift.types).map(([type, one]) => (
          <tr key={type}><td>{type}</td><td class="number">{count(one.kept)}</td><td class="number extra">{count(one.added)}</td><td class="number extra">{count(one.removed)}</td>
            <td class="number">{fixed(one.cosine)}</td><td class="number">{percent(one.neighbours)}</td><td class="number">{percent(one.clusters, 1)}</td></tr>
        ))}</tbody>
      </table>
      <p class="soft small">Models that were trained on the vectors of {drift.since} read these as long as they stay close: a cosine near 1, most neighbours the same.</p>
    </section>
  );
}
