// How the service fares: traffic, latency, what was refused, the store, the last change of version.
import { useEffect, useRef, useState } from "preact/hooks";
import { type Info, call, text } from "../api";
import { Chart } from "../chart";
import { ExperimentsPanel } from "./experiments";
import { ago, fixed, percent, words } from "../format";
import { type Moment, type Reading, between, parse, sum } from "./metrics";

const EVERY_MS = 2000;
const KEPT = 150;
const SHOWN = 180;

export function HealthView({ info }: { info: Info }) {
  const [moments, setMoments] = useState<Moment[]>([]);
  const [last, setLast] = useState<Reading>();
  const [ready, setReady] = useState<{ status: string; degraded: string[] }>();
  const [problem, setProblem] = useState("");
  const before = useRef<Reading>(undefined);

  useEffect(() => {
    let gone = false;
    async function look() {
      try {
        const reading = { at: Date.now(), samples: parse(await text("metrics")) };
        const state = await call<{ status: string; degraded: string[] }>("readyz").catch((error: Error) => ({ status: error.message, degraded: [] }));
        if (gone) return;
        if (before.current) {
          const moment = between(before.current, reading);
          setMoments((all) => [...all, moment].slice(-KEPT));
        }
        before.current = reading;
        setLast(reading);
        setReady(state);
        setProblem("");
      } catch (error) {
        if (!gone) setProblem((error as Error).message);
      }
    }
    void look();
    const timer = setInterval(() => { if (!document.hidden) void look(); }, EVERY_MS);
    return () => { gone = true; clearInterval(timer); };
  }, []);

  const samples = last?.samples ?? [];
  const value = (name: string) => sum(samples, name);
  const swapped = value("twhin_index_swap_timestamp_seconds");
  const now = moments.at(-1);
  const times = moments.map((one) => one.at);
  const line = (label: string, colour: string, of: (one: Moment) => number | null) => ({ label, colour, values: moments.map(of) });
  const ok = ready?.status === "ok" && !problem;
  return (
    <div class="health">
      <h1 class="unseen">Health</h1>
      {problem && <p class="card problem" role="alert">{problem}</p>}
      <div class="tiles">
        <Tile name="State" tone={ok ? "good" : "bad"}>{problem ? "no answer" : ready ? words(ready.status) : "…"}
          {ready?.degraded.map((one) => <small key={one}>{words(one)}</small>)}</Tile>
        <Tile name="Requests a second">{now ? fixed(now.requests, 1) : "…"}<small>{now ? `${now.inflight} in work` : ""}</small></Tile>
        <Tile name="Latency, half within">{now?.p50 == null ? "–" : `${fixed(now.p50, 1)} ms`}<small>{now?.p99 == null ? "no traffic now" : `99% within ${fixed(now.p99, 1)} ms`}</small></Tile>
        <Tile name="Turned away" tone={now && now.shed > 0 ? "bad" : "good"}>{now ? `${fixed(now.shed, 1)}/s` : "…"}<small>{value("twhin_shed_total")} since the start</small></Tile>
        <Tile name="Search depth in use" tone={last && value("twhin_quality_factor") < 1 ? "bad" : "good"}>{last ? percent(value("twhin_quality_factor")) : "…"}<small>less under overload</small></Tile>
        <Tile name="Live engagements" tone={info.state.healthy ? "good" : "bad"}>{info.state.kind ?? "store"}<small>{info.state.healthy ? "answers" : info.state.reason ?? "does not answer"}</small></Tile>
        <Tile name="Version" tone={value("twhin_index_behind") ? "bad" : "good"}><span class="fit">{info.version}</span><small>{swapped ? `took over ${ago(swapped * 1000)}` : ""}</small></Tile>
        <Tile name="Self-test recall">{last ? fixed(value("twhin_canary_recall"), 3) : "…"}<small>{sum(samples, "twhin_index_load_total", (labels) => labels.outcome === "refused")} versions refused</small></Tile>
      </div>
      <ExperimentsPanel />
      <div class="charts">
        <div class="card"><Chart seconds={SHOWN} least={1} title="Answers a second" times={times} lines={[line("all", "#3d7de0", (one) => one.requests), line("refused (4xx)", "#c2741f", (one) => one.refused), line("errors (5xx)", "#d23f4f", (one) => one.errors)]} /></div>
        <div class="card"><Chart seconds={SHOWN} least={1} title="Latency" unit=" ms" times={times} lines={[line("p50", "#26a069", (one) => one.p50), line("p99", "#af52ca", (one) => one.p99)]} /></div>
        <div class="card"><Chart seconds={SHOWN} least={1} title="Turned away a second" times={times} lines={[line("shed", "#d23f4f", (one) => one.shed)]} /></div>
        <div class="card"><Chart seconds={SHOWN} least={1} title="Event loop late by" unit=" ms" times={times} lines={[line("lag", "#0096aa", (one) => one.lag)]} /></div>
      </div>
      <p class="soft small">Read from <a href="metrics">metrics</a> every {EVERY_MS / 1000} seconds since this page was opened; the studio's own requests and probes are left out of traffic and latency where they have routes of their own.</p>
    </div>
  );
}

function Tile({ name, tone, children }: { name: string; tone?: "good" | "bad"; children: preact.ComponentChildren }) {
  return <section class={`card tile ${tone ?? ""}`} aria-label={name}><h2>{name}</h2><p>{children}</p></section>;
}
