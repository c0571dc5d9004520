// Asking: a user or engagements, a relation, one strategy or two side by side; what comes out, and why.
import { useEffect, useState } from "preact/hooks";
import { type Answer, type Attribute, type Attributes, type Edges, type Info, type Interests, type Item, type SpaceInfo, call, edgesOf, interestsOf, items, segment } from "../api";
import { address, follow, go } from "../address";
import { palette } from "../colours";
import { Suggest } from "../suggest";
import { Candidates, Changes, Gone } from "./answer";
import { RequestCode } from "./code";
import { EdgeLists, PAGE } from "./edges";
import { type About, EntityPage, about } from "./entity";
import { FilterForm } from "./filter";
import { InterestList } from "./interests";
import { type Names, nameOf, namesOf } from "./links";
import { K, K_MAX, type Other, type Question, besides, filterOf, questionOf, relationOf, setAside } from "./question";
import { changes } from "./reasons";
import { Who } from "./who";

interface Told { question: Question; answer: Answer; beside: (Other & { answer: Answer }) | undefined; interests: Interests | undefined; names: Names; who: Item | undefined; edges: Edges | undefined; trouble: string }

export function AskView({ info, query }: { info: Info; query: URLSearchParams }) {
  const space = Object.values(info.spaces)[0]!;
  const relation = space.relations.find((one) => one.name === relationOf(query, space))!;
  const [told, setTold] = useState<Told>();
  const [alike, setAlike] = useState<About>();
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
    setProblem(setAside(query, space));
    if (!question) setTold(undefined);
    if (!entity) setAlike(undefined);
    if (!question && !entity) return;
    setAsking(true);
    const work = question ? askFor(question, besides(question, versus, info), relation.source, relation.target).then(keep(setTold))
      : about(entity!, [relation, ...space.relations]).then(keep(setAlike));
    work.catch(keep((error: Error) => { setProblem(error.message); setTold(undefined); setAlike(undefined); }))
      .finally(keep(() => setAsking(false)) as () => void);
    return () => { gone = true; };
  }, [query.toString(), info.version, again]);

  const engaged = query.getAll("engaged");
  const strategies = ["auto", ...relation.strategies];
  const change = (name: string) => (event: { currentTarget: { value: string } }) => go({ view: "ask", [name]: event.currentTarget.value });
  const beside = told?.beside;
  const clusters = told ? [...(told.interests?.interests ?? []), ...told.answer.explain.modes, ...(beside?.answer.explain.modes ?? [])].map((one) => one.cluster) : [];
  const colours = palette(clusters);
  const shared = told && { colours, names: told.names, userType: relation.source };
  // From left to right: as it is and as it would be, the older version and the newer, the strategy asked for and another.
  const [before, after] = told && beside ? (beside.first ? [beside.answer, told.answer] : [told.answer, beside.answer]) : [];
  const called = (id: string) => (told ? nameOf(told.names, { type: relation.target, id }) : id);
  const titleAfter = beside?.whatIf ? `If the user had ${engaged.map(called).join(", ")}` : beside?.after;
  const changed = before && after && changes(before.candidates, after.candidates, beside?.whatIf ? engaged : []);
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
            {told.edges && <EdgeLists key={`out ${told.question.user}`} of={told.edges} direction="out" title="What the user has" userType={relation.source} />}
            {told.edges && <EdgeLists key={`in ${told.question.user}`} of={told.edges} direction="in" title="Who has the user" userType={relation.source} />}
            {told.interests && <InterestList of={told.interests} {...shared} />}
            {query.get("user") && <a class="button quiet" href={address(toMap)} onClick={follow(toMap)}>Show on the map</a>}
            <RequestCode question={told.question} />
          </div>
          {!beside && <Candidates answer={told.answer} asked={told.question.strategy} title="Candidates" {...shared} onEngage={engage} />}
          {beside && changed && <>
            <Candidates answer={before!} asked={(beside.first ? beside : told).question.strategy} title={beside.before} {...shared} onEngage={beside.whatIf ? engage : undefined} />
            <div>
              <Candidates answer={after!} asked={(beside.first ? told : beside).question.strategy} title={titleAfter!} changed={changed} {...shared} />
              <Gone before={before!} changed={changed} type={before!.explain.candidate_type} userType={relation.source} names={told.names} />
            </div>
          </>}
        </div>
      )}
      {alike && <EntityPage of={alike} userType={relation.source} attributes={attributes?.types[alike.entity.type] ?? []} />}
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
  const having = question.user ? edgesOf({ type: userType, id: question.user }, { limit: PAGE }).catch(() => undefined) : undefined;
  const asked = question.user ? items(userType, { ids: [question.user], attributes: true }).then(([one]) => one, () => undefined) : undefined;
  // An answer with nothing beside it is better than none: an older version may not know what is asked.
  let trouble = "";
  const second = other && (other.version ? call<Answer>(`v1/versions/${segment(other.version)}/recommend`, other.question, OPENING_SECONDS)
    : call<Answer>("recommend", other.question)).catch((error: Error) => { trouble = `${other.called}: ${error.message}`; return undefined; });
  const [answer, more, interests] = await Promise.all([call<Answer>("recommend", question), second, interesting]);
  const entities = [answer, ...(more ? [more] : [])].flatMap((one) => [
    ...one.candidates.map(({ id }) => ({ type: one.explain.candidate_type, id })),
    ...one.explain.modes.map((mode) => ({ type: mode.medoid_type, id: mode.medoid })),
  ]);
  for (const one of interests?.interests ?? []) entities.push(one.medoid, ...one.examples);
  for (const one of question.engagements ?? []) entities.push({ type: target, id: one.target });
  const [who, edges] = await Promise.all([asked, having]);
  const beside = other && more ? { ...other, answer: more } : undefined;
  return { question, answer, beside, interests, names: await namesOf(entities), who: who?.status === "found" ? who : undefined, edges, trouble };
}
