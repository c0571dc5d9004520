// The studio: what a version knows, whom it recommends to whom and why, what it measured, how the service fares.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { type Info, call, currentKey, onKeyNeeded, useKey } from "./api";
import { VIEWS, address, follow, useAddress, viewOf } from "./address";
import { AskView } from "./ask/view";
import { compact } from "./format";
import { HealthView } from "./health/view";
import { MapView } from "./map/view";
import { VersionsView } from "./versions/view";
import "uplot/dist/uPlot.min.css";
import "./style.css";

const TITLES = { map: "Map", ask: "Ask", versions: "Versions", health: "Health" };

function KeyBox({ why, onGiven }: { why: string; onGiven: () => void }) {
  const [typed, setTyped] = useState(currentKey());
  return (
    <form class="card keybox" onSubmit={(event) => { event.preventDefault(); useKey(typed.trim()); onGiven(); }}>
      <label>API key<input type="password" id="key" autocomplete="off" value={typed} onInput={(event) => setTyped(event.currentTarget.value)} /></label>
      <button>Use it</button>
      {why ? <p class="small" role="alert">{why}</p> : <p class="small soft">Kept in this tab alone, until it is closed.</p>}
    </form>
  );
}

function Studio() {
  const query = useAddress();
  const view = viewOf(query);
  const [info, setInfo] = useState<Info>();
  const [problem, setProblem] = useState("");
  const [asked, setAsked] = useState(0);
  const [keyWhy, setKeyWhy] = useState<string>();
  onKeyNeeded((why) => setKeyWhy(why));

  useEffect(() => {
    setProblem("");
    call<Info>("v1/info").then(setInfo, (error: Error) => setProblem(error.message));
  }, [asked]);
  useEffect(() => { document.title = `${TITLES[view]} · twhin studio`; }, [view]);

  const again = () => setAsked((n) => n + 1);
  const entities = info && Object.entries(Object.values(info.spaces)[0]!.entities);
  return (
    <>
      <a class="skip" href="#main">To the content</a>
      <header>
        <span class="brand">twhin <span>studio</span></span>
        <nav aria-label="Views">
          {VIEWS.map((one) => <a key={one} href={address({ view: one })} onClick={follow({ view: one })} aria-current={one === view ? "page" : undefined}>{TITLES[one]}</a>)}
          <a href="docs">API</a>
        </nav>
        <span class="served soft small">
          {info && <><span id="version">version {info.version}</span><span class="wide"> · {entities!.map(([name, one]) => `${compact(one.count)} ${name}`).join(" · ")}</span></>}
          <button class="quiet small" onClick={() => setKeyWhy(keyWhy === undefined ? "" : undefined)} aria-expanded={keyWhy !== undefined}>Key</button>
        </span>
      </header>
      {keyWhy !== undefined && <KeyBox why={keyWhy} onGiven={() => { setKeyWhy(undefined); again(); }} />}
      <main id="main" class={`on-${view}`} tabIndex={-1}>
        {problem && !info && !keyWhy && <div class="card problem" role="alert"><p>{problem}</p><button onClick={again}>Try again</button></div>}
        {!info && !problem && <p class="soft" role="status">Asking the service what it serves…</p>}
        {info && view === "map" && <MapView key={asked} info={info} query={query} />}
        {info && view === "ask" && <AskView key={asked} info={info} query={query} />}
        {info && view === "versions" && <VersionsView info={info} query={query} onChanged={again} />}
        {info && view === "health" && <HealthView info={info} />}
      </main>
    </>
  );
}

render(<Studio />, document.getElementById("app")!);
