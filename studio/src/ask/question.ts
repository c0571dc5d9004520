// The question that the address asks, as a request of the API, and as text to copy.
import type { Info, SpaceInfo } from "../api";

export interface Question {
  user?: string;
  engagements?: { target: string; relation?: string }[];
  relation: string;
  strategy: string;
  k: number;
  exclude_seen?: boolean;
  filter?: object;
  diversity?: number;
  max_per_cluster?: number;
  experiments?: false;
  explain: true;
}
export const K = 20;
export const K_MAX = 200;

export function questionOf(query: URLSearchParams, space: SpaceInfo): Question | undefined {
  const user = query.get("user") ?? "";
  const targets = query.getAll("engaged");
  if (!user && !targets.length) return undefined;
  const relation = relationOf(query, space);
  const k = Math.min(K_MAX, Math.max(1, Number(query.get("k")) || K));
  const asked: Question = { relation, strategy: query.get("strategy") || "auto", k, explain: true };
  if (user) asked.user = user;
  if (targets.length) asked.engagements = targets.map((target) => ({ target }));
  // What stands beside another strategy or version is that of the version itself, whatever arm the user is in.
  if (query.get("versus")) asked.experiments = false;
  if (query.get("seen") === "with") asked.exclude_seen = false;
  const [filter, diversity] = [filterOf(query), Number(query.get("diversity"))];
  if (filter) asked.filter = filter;
  if (diversity > 0) asked.diversity = Math.min(1, diversity);
  const most = Math.floor(Number(query.get("most")));
  if (most >= 1) asked.max_per_cluster = most;
  return asked;
}

/**
 * What stands beside the answer: another strategy, another version, or the same without the engagements that were added (`whatIf`).
 * Left stands `before` and right `after`; `first`: what is beside stands left. `called` is what is beside.
 */
export interface Other { question: Question; version?: string; before: string; after: string; first: boolean; whatIf: boolean; called: string }

/** In the address a version stands after an @, which no strategy's name has. */
export function besides(question: Question, versus: string, info: Info): Other | undefined {
  if (versus.startsWith("@")) {
    const version = versus.slice(1);
    const kept = info.versions.kept; // oldest first
    const first = kept.includes(version) && kept.indexOf(version) < kept.indexOf(info.version);
    const [older, newer] = [first ? version : info.version, first ? info.version : version];
    const called = (one: string, age: string) => `${age} version ${one}${one === info.version ? ", serving" : ""}`;
    return { question, version, before: called(older, "Older"), after: called(newer, "Newer"), first, whatIf: false, called: `Version ${version}` };
  }
  const by = (strategy: string) => `By ${strategy}`;
  if (versus) return { question: { ...question, strategy: versus }, before: by(question.strategy), after: by(versus), first: false, whatIf: false, called: by(versus) };
  if (!question.user || !question.engagements) return undefined;
  const { engagements: _, ...without } = question;
  return { question: without, before: "As it is", after: "As it would be", first: true, whatIf: true, called: "As it is" };
}

/** The filter that the address has; undefined without one, null for what is no JSON object. */
export function filterOf(query: URLSearchParams): object | undefined | null {
  const text = query.get("filter");
  if (!text) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return value !== null && typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

export function relationOf(query: URLSearchParams, space: SpaceInfo): string {
  const asked = query.get("relation");
  return space.relations.some((one) => one.name === asked) ? asked! : space.default.relation;
}

/** What the address asks for and this version cannot answer, so that something else is shown, in sentences. */
export function setAside(query: URLSearchParams, space: SpaceInfo): string {
  const asked = query.get("relation");
  const used = relationOf(query, space);
  const relation = asked && asked !== used ? [`This version has no relation ${asked}; shown is ${used}.`] : [];
  return [...relation, ...(filterOf(query) === null ? ["The filter is no JSON object, so it was left out. docs/api.md describes filters."] : [])].join(" ");
}

const base = () => new URL(".", location.href).href.replace(/\/$/, "");
const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

export function asCurl(question: Question, keyed: boolean): string {
  const key = keyed ? ` \\\n  -H "x-api-key: $TWHIN_KEY"` : "";
  return `curl -s ${base()}/recommend \\\n  -H 'content-type: application/json'${key} \\\n  -d ${quoted(JSON.stringify(question))}`;
}

export function asPython(question: Question, keyed: boolean): string {
  const literal = (value: unknown): string => {
    if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
    if (value !== null && typeof value === "object") {
      return `{${Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${literal(one)}`).join(", ")}}`;
    }
    return typeof value === "boolean" ? (value ? "True" : "False") : JSON.stringify(value);
  };
  const key = keyed ? `, headers={"x-api-key": os.environ["TWHIN_KEY"]}` : "";
  const imports = keyed ? "import os\n\nimport httpx" : "import httpx";
  return `${imports}\n\nquestion = ${literal(question)}\nanswer = httpx.post("${base()}/recommend", json=question${key}).json()\nfor candidate in answer["candidates"]:\n    print(candidate["id"], candidate["score"])`;
}
