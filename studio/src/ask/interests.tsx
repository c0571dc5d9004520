// What a user likes: the interests, each with its share, its typical entity and the user's own examples.
import type { Interests } from "../api";
import { count, percent } from "../format";
import { EntityLink, type Names } from "./links";

export function InterestList({ of, colours, names, userType }: {
  of: Interests; colours: Map<number, string>; names: Names; userType: string;
}) {
  return (
    <section class="card" id="interests" aria-label="Interests">
      <h2>Interests</h2>
      {of.interests.length === 0 && <p class="soft">None known. Interests come from engagements with what the relation leads to; this user has none.</p>}
      {of.interests.length > 0 && <p class="soft small">Among what the relation leads to, of all that the user has there.</p>}
      {of.interests.map((one) => (
        <div class="interest" key={one.cluster}>
          <div class="row spread"><b>{percent(one.weight, 1)}</b><span class="soft small">cluster {one.cluster} · {count(one.size)} members</span></div>
          <div class="bar" style={{ width: `${Math.max(2, 100 * one.weight)}%`, background: colours.get(one.cluster) }} />
          <p class="small">{one.examples.length > 0 && <>
            <span class="soft">The user's own: </span>
            {one.examples.map((example, i) => <span key={example.id}>{i > 0 && ", "}<EntityLink entity={example} userType={userType} names={names} /></span>)}
            <br /></>}
            <span class="soft">Typical of it: </span><EntityLink entity={one.medoid} userType={userType} names={names} />
          </p>
        </div>
      ))}
    </section>
  );
}
