// Asking: a user or engagements, a relation, one strategy or two side by side; what comes out, and why.
import { useEffect, useState } from "preact/hooks";
import { type Answer, type Attribute, type Attributes, type Entity, type Info, type Interests, type Item, type SpaceInfo, call, interestsOf, items, segment } from "../api";
import { address, follow, go } from "../address";
import { palette } from "../colours";
import { fixed } from "../format";
import { Suggest } from "../suggest";
import { Candidates, Changes, Gone } from "./answer";
import { RequestCode } from "./code";
import { FilterForm } from "./filter";
import { InterestList } from "./interests";
import { EntityLink, type Names, nameOf } from "./links";
import { K, K_MAX, type Other, type Question, besides, filterOf, questionOf, relationOf } from "./question";
import { changes } from "./reasons";
import { Who } from "./who";

interface Told { question: Question; answer: Answer; beside: (Other & { answer: Answer }) | undefined; interests: Interests | undefined; names: Names; who: Item | undefined; trouble: string }
interface Alike { entity: Entity; type: string; neighbours: { id: string; score: number }[]; names: Names }

export function AskView({ info, query }: { info: Info; query: URLSearchParams }) {
  const space = Object.values(info.spaces)[0]!;
  const relation = space.relations.find((one) => one.name === relationOf(query, space))!;
  const [told, setTold] = useState<Told>();
  const [alike, setAlike] = useState<Alike>();
  const [problem, setProblem] = useState("");
  const [asking, setAsking] = useState(false);
  const [again, setAgain] = useState(0);
  const [attributes, setAttributes] = useState<Attributes>();
  const question = questionOf(query, space);
  const entity = !question && query.get("id") ? { type: query.get("type") ?? "", id: query.get("id")! } : undefined;
  const versus = query.get("versus") ?? "";

  useEffect(() => {
    call<Attributes>(`v1/attributes?version=${segment(info.version)}`).then(setAttributes, () => undefined);
  }, [info.version]);
  useEffect(() => {
    let gone = false;
    const keep = <T,>(set: (value: T) => void) => (value: T) => { if (!gone) set(value); };
    setProblem(filterOf(query) === null ? "The filter is no JSON object, so it was left out. docs/api.md describes filters." : "");
    if (!question) setTold(undefined);
    if (!entity) setAlike(undefined);
    if (!question && !entity) return;
    setAsking(true);
    const work = question ? askFor(question, besides(question, versus, info.version), relation.source, relation.target).then(keep(setTold)) : similarTo(entity!).then(keep(setAlike));
    work.catch(keep((error: Error) => { setProblem(error.message); setTold(undefined); setAlike(undefined); }))
      .finally(keep(() => setAsking(false)) as () => void);
    return () => { gone = true; };
  }, [query.toString(), info.version, again]);

  const engaged = query.getAll("engaged");
  const strategies = ["auto", ...Object.keys(space.strategies)];
  const change = (name: string) => (event: { currentTarget: { value: string } }) => go({ view: "ask", [name]: event.currentTarget.value });
  const beside = told?.beside;
  const clusters = told ? [...(told.interests?.interests ?? []), ...told.answer.explain.modes, ...(beside?.answer.explain.modes ?? [])].map((one) => one.cluster) : [];
  const colours = palette(clusters);
  const shared = told && { colours, names: told.names, userType: relation.source };
  // What is asked stands last where it is what would be, and first where another strategy or version stands beside it.
  const [before, after] = told && beside ? (beside.first ? [beside.answer, told.answer] : [told.answer, beside.answer]) : [];
  const called = (id: string) => (told ? nameOf(told.names, { type: relation.target, id }) : id);
  const titleAfter = beside?.first ? `If the user had ${engaged.map(called).join(", ")}` : beside?.after;
  const changed = before && after && changes(before.candidates, after.candidates, beside?.first ? engaged : []);
  const others = info.versions.kept.filter((one) => one !== info.version).reverse();
  const offered: Attribute[] = attributes?.types[relation.target] ?? [];
  const engage = (id: string) => go({ engaged: [...engaged, id] });
  const toMap = { view: "map", user: query.get("user") ?? undefined, type: undefined, id: undefined };

  return (
    <div class="ask">
      <h1 class="unseen">Ask for candidates</h1>
      <form class="card form" onSubmit={(event) => { event.preventDefault(); setAgain(again + 1); }}>
        <Suggest label="User" free type={relation.source} value={query.get("user") ?? ""} placeholder={`${relation.source}: id or name`}
          onChoose={(one) => go({ view: "ask", user: one.id, type: undefined, id: undefined })} />
        <Suggest label={query.get("user") ? "What if the user had" : "Engaged with"} type={relation.target} value="" placeholder={`${relation.target} to add`} onChoose={(one) => { engage(one.id); }} key={engaged.join(" ")} />
        <label>Relation<select value={relation.name} onChange={change("relation")}>
          {space.relations.map((one) => <option key={one.name} value={one.name}>{one.name} ({one.source} → {one.target})</option>)}
        </select></label>
        <label>Strategy<select id="strategy" value={query.get("strategy") || "auto"} onChange={change("strategy")}>
          {strategies.map((one) => <option key={one} value={one}>{one}</option>)}
        </select></label>
        <label>Compare with<select id="versus" value={versus} onChange={change("versus")}>
          <option value="">{question?.user && engaged.length ? "how it is without" : "nothing"}</option>
          <optgroup label="Another strategy">{strategies.map((one) => <option key={one} value={one}>{one}</option>)}</optgroup>
          {others.length > 0 && <optgroup label="Another version">{others.map((one) => <option key={one} value={`@${one}`}>{one}</option>)}</optgroup>}
          {versus.startsWith("@") && !others.includes(versus.slice(1)) && <option value={versus}>{versus.slice(1)}</option>}
        </select></label>
        <label class="narrow">How many<input id="k" type="number" min="1" max={K_MAX} value={query.get("k") ?? K} onChange={change("k")} /></label>
        <label class="narrow">Diversity<select id="diversity" value={query.get("diversity") ?? ""} onChange={change("diversity")}>
          <option value="">none</option>{["0.25", "0.5", "0.75"].map((one) => <option key={one}>{one}</option>)}
        </select></label>
        <label class="narrow">Of one cluster at most<input id="most" type="number" min="1" placeholder="any" value={query.get("most") ?? ""} onChange={change("most")} /></label>
        <label class="choice"><input type="checkbox" checked={query.get("seen") === "with"}
          onChange={(event) => go({ seen: event.currentTarget.checked ? "with" : undefined })} /> also what they have</label>
        {engaged.length > 0 && (
          <ul class="chips" aria-label="Engagements of this question alone">
            {engaged.map((one, i) => (
              <li key={`${one} ${i}`}><bdi>{called(one)}</bdi> <button type="button" class="quiet" aria-label={`Take ${called(one)} away`}
                onClick={() => go({ engaged: engaged.filter((_, j) => j !== i) })}>×</button></li>
            ))}
          </ul>
        )}
        <FilterForm text={query.get("filter") ?? ""} invalid={filterOf(query) === null} attributes={offered} type={relation.target} onChange={(filter) => go({ view: "ask", filter })} />
      </form>
      {problem && <div class="card problem" role="alert"><p>{problem}</p><button onClick={() => setAgain(again + 1)}>Ask again</button></div>}
      {!question && !entity && !problem && <Welcome space={space} />}
      {asking && !told && !alike && <p class="soft" role="status">Asking…</p>}
      {told?.trouble && <p class="card problem" role="alert">{told.trouble}</p>}
      {told && shared && (
        <div class={`answer ${beside ? "two" : ""}`} aria-busy={asking} data-asked={JSON.stringify(told.question)}>
          <div class="side">
            {changed && beside && <Changes of={changed} before={before!} after={after!} beside={beside} {...shared} />}
            {told.who && <Who item={told.who} type={relation.source} interests={told.interests} attributes={attributes?.types[relation.source] ?? []} />}
            {told.interests && <InterestList of={told.interests} {...shared} />}
            {query.get("user") && <a class="button quiet" href={address(toMap)} onClick={follow(toMap)}>Show on the map</a>}
            <RequestCode question={told.question} />
          </div>
          {!beside && <Candidates answer={told.answer} asked={told.question.strategy} title="Candidates" {...shared} onEngage={engage} />}
          {beside && changed && <>
            <Candidates answer={before!} asked={(beside.first ? beside : told).question.strategy} title={beside.before} {...shared} onEngage={beside.first ? engage : undefined} />
            <div>
              <Candidates answer={after!} asked={(beside.first ? told : beside).question.strategy} title={titleAfter!} changed={changed} {...shared} />
              <Gone before={before!} changed={changed} type={before!.explain.candidate_type} userType={relation.source} names={told.names} />
            </div>
          </>}
        </div>
      )}
      {alike && (
        <section class="card" id="similar" aria-label="Similar">
          <h2>{alike.entity.type} <bdi>{alike.names.get(`${alike.entity.type} ${alike.entity.id}`)?.label ?? alike.entity.id}</bdi>: similar</h2>
          <ol class="list">
            {alike.neighbours.map((one, i) => (
              <li key={one.id} class="candidate"><span class="rank">{i + 1}</span>
                <span class="body row spread"><EntityLink entity={{ type: alike.type, id: one.id }} userType={relation.source} names={alike.names} /><span class="score">{fixed(one.score)}</span></span></li>
            ))}
          </ol>
        </section>
      )}
    </div>
  );
}

function Welcome({ space }: { space: SpaceInfo }) {
  return (
    <div class="card welcome">
      <h2>Whom shall we recommend to?</h2>
      <p>Click into “User” and choose one, or name a few things somebody engaged with: candidates for people whom the training never saw come from those.
        By default the relation is <b>{space.default.relation}</b>, and <b>auto</b> is the strategy that the build of this version took for it: {space.auto}.</p>
    </div>
  );
}

/** How long a version that does not serve may take: the first question opens it. */
const OPENING_SECONDS = 10;

async function askFor(question: Question, other: Other | undefined, userType: string, target: string): Promise<Told> {
  const interesting = question.user ? interestsOf(question.user, question.relation) : undefined;
  const asked = question.user ? items(userType, { ids: [question.user], attributes: true }).then(([one]) => one, () => undefined) : undefined;
  // An answer with nothing beside it is better than none: an older version may not know what is asked.
  let trouble = "";
  const second = other && (other.version ? call<Answer>(`v1/versions/${segment(other.version)}/recommend`, other.question, OPENING_SECONDS)
    : call<Answer>("recommend", other.question)).catch((error: Error) => { trouble = `${other.after}: ${error.message}`; return undefined; });
  const [answer, more, interests] = await Promise.all([call<Answer>("recommend", question), second, interesting]);
  const entities = [answer, ...(more ? [more] : [])].flatMap((one) => [
    ...one.candidates.map(({ id }) => ({ type: one.explain.candidate_type, id })),
    ...one.explain.modes.map((mode) => ({ type: mode.medoid_type, id: mode.medoid })),
  ]);
  for (const one of interests?.interests ?? []) entities.push(one.medoid, ...one.examples);
  for (const one of question.engagements ?? []) entities.push({ type: target, id: one.target });
  const who = await asked;
  const beside = other && more ? { ...other, answer: more } : undefined;
  return { question, answer, beside, interests, names: await namesOf(entities), who: who?.status === "found" ? who : undefined, trouble };
}

async function similarTo(entity: Entity): Promise<Alike> {
  const found = await call<{ candidate_type: string; neighbours: Alike["neighbours"] }>("v1/similar", { ...entity, k: K });
  const entities = [entity, ...found.neighbours.map(({ id }) => ({ type: found.candidate_type, id }))];
  return { entity, type: found.candidate_type, neighbours: found.neighbours, names: await namesOf(entities) };
}

/** What entities are called; an answer without names is better than none. */
async function namesOf(entities: Entity[]): Promise<Names> {
  const names: Names = new Map();
  const types = new Set(entities.map((one) => one.type));
  await Promise.all([...types].map(async (type) => {
    const ids = [...new Set(entities.filter((one) => one.type === type).map((one) => one.id))];
    const found: Item[] = await items(type, { ids }).catch(() => []);
    found.forEach((item, i) => names.set(`${type} ${ids[i]}`, item));
  }));
  return names;
}
