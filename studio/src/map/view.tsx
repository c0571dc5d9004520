// The map of all entities: coloured, searched, circled, with one entity's story lit up.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { type Attributes, type Entity, type Info, type Item, Problem, call, items, segment } from "../api";
import { go } from "../address";
import { css, ofType } from "../colours";
import { compact, count } from "../format";
import { Suggest } from "../suggest";
import { type Atlas, Grid, type Spot, inside, loadAtlas } from "./data";
import { Lasso } from "./lasso";
import { Legend } from "./legend";
import { type Colouring, colourable, colouring } from "./paint";
import { CircledPanel, StoryPanel } from "./panel";
import { Plane } from "./plane";
import { drawsInSoftware } from "./raster";
import { type Told, tell } from "./story";

const REACH_PIXELS = 12;
const HOVER_MS = 90;
const LABEL_HEIGHT = 22;

/** Where labels stand beside their points: right, left, below or above, where no earlier one is; the user's own first. */
function sidePlaces(labels: Told["labels"], plane: Plane): { label: Told["labels"][number]; left: number; top: number }[] {
  const taken: { left: number; top: number; width: number }[] = [];
  return [...labels].sort((a, b) => Number(b.kind === "self") - Number(a.kind === "self")).flatMap((label) => {
    const [x, y] = plane.toScreen(label.x, label.y);
    const width = Math.min(192, 14 + (label.kind === "self" ? 9.5 : 8.2) * label.text.length);
    const places = [[x + 9, y - 9], [x - 9 - width, y - 9], [x - width / 2, y + 9], [x - width / 2, y - 28]] as const;
    const free = places.find(([left, top]) => taken.every((one) => left > one.left + one.width || left + width < one.left || Math.abs(top - one.top) > LABEL_HEIGHT));
    if (!free) return [];
    const [left, top] = free;
    taken.push({ left, top, width });
    return [{ label, left, top }];
  });
}

export function MapView({ info, query }: { info: Info; query: URLSearchParams }) {
  const [atlas, setAtlas] = useState<Atlas>();
  const [problem, setProblem] = useState("");
  const [again, setAgain] = useState(0);
  const [told, setTold] = useState<Told>();
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [circling, setCircling] = useState(false);
  const [circled, setCircled] = useState<Spot[]>();
  const [tip, setTip] = useState<{ x: number; y: number; item: Item; type: string }>();
  const [, redraw] = useState(0);
  const place = useRef<HTMLDivElement>(null);
  const plane = useRef<Plane | undefined>(undefined);
  const hover = useRef(0);
  const [attributes, setAttributes] = useState<Attributes>();
  const [colours, setColours] = useState<Colouring>();
  const by = query.get("colour") || "cluster";
  const [type, id, user] = [query.get("type"), query.get("id"), query.get("user")];
  const relation = query.get("relation");

  useEffect(() => {
    setProblem("");
    loadAtlas(drawsInSoftware()).then(setAtlas, (error: Problem) => setProblem(error.message));
  }, [info.version, again]);

  useEffect(() => {
    if (!atlas?.layers.length || !place.current) return;
    const fail = (error: Error) => setProblem(`The map cannot be drawn here: ${error.message}. Searching and asking work without it.`);
    try {
      plane.current = new Plane(place.current, drawsInSoftware(), () => redraw((n) => n + 1), () => redraw((n) => n + 1), fail);
    } catch (error) {
      fail(error as Error);
    }
    return () => { plane.current?.close(); plane.current = undefined; };
  }, [atlas]);
  useEffect(() => {
    if (!atlas?.layers.length) return;
    let gone = false;
    const version = segment(atlas.version);
    call<Attributes>(`v1/attributes?version=${version}`).then((one) => { if (!gone) setAttributes(one); }, () => undefined);
    return () => { gone = true; };
  }, [atlas]);
  useEffect(() => {
    if (!atlas || (by.startsWith(".") && !attributes)) return;
    let gone = false;
    colouring(by, atlas, attributes).then((one) => {
      if (gone) return;
      setColours(one);
      plane.current?.show(atlas.layers, one.paint);
    }, (error: Problem) => { if (!gone) setProblem(error.message); });
    return () => { gone = true; };
  }, [atlas, by, attributes]);
  useEffect(() => plane.current?.hide(hidden), [atlas, hidden]);

  useEffect(() => {
    const space = Object.values(info.spaces)[0]!;
    const source = space.relations.find((one) => one.name === relation)?.source ?? space.default.user_type;
    const entity: Entity | undefined = user ? { type: source, id: user } : type && id ? { type, id } : undefined;
    let gone = false;
    setTold(undefined);
    if (entity) tell(entity, info, relation).then((one) => { if (!gone) setTold(one); }, (error: Problem) => setProblem(error.message));
    return () => { gone = true; };
  }, [type, id, user, relation, info.version, again]);
  useEffect(() => { plane.current?.light(told?.lit ?? []); }, [told, atlas]);

  // Made when somebody points at the map first: a million points take a moment.
  const grids = useMemo(() => {
    let made: Grid[] | undefined;
    return () => (made ??= atlas?.layers.map((layer) => layer.grid ?? new Grid(layer.positions)) ?? []);
  }, [atlas]);

  function near(event: MouseEvent): Spot | undefined {
    if (!atlas || !plane.current || !place.current) return undefined;
    const box = place.current.getBoundingClientRect();
    const [x, y] = plane.current.toPlane(event.clientX - box.left, event.clientY - box.top);
    let reach = REACH_PIXELS / 2 ** plane.current.camera.zoom;
    let best: Spot | undefined;
    for (const [layer, grid] of grids().entries()) {
      if (hidden.has(atlas.layers[layer]!.type)) continue;
      const found = grid.nearest(x, y, reach);
      if (found) [best, reach] = [{ layer, row: found[0] }, found[1]];
    }
    return best;
  }

  function onMove(event: MouseEvent) {
    clearTimeout(hover.current);
    if (tip) setTip(undefined);
    if (event.buttons || circling) return;
    const [x, y] = [event.offsetX, event.offsetY];
    hover.current = setTimeout(async () => {
      const spot = near(event);
      if (!spot || !atlas) return;
      const kind = atlas.layers[spot.layer]!.type;
      const [item] = await items(kind, { rows: [spot.row] }, atlas.version).catch(() => []);
      if (item?.id) setTip({ x, y, item, type: kind });
    }, HOVER_MS) as unknown as number;
  }

  async function onClick(event: MouseEvent) {
    const spot = near(event);
    if (!spot || !atlas) return;
    const kind = atlas.layers[spot.layer]!.type;
    const [item] = await items(kind, { rows: [spot.row] }, atlas.version).catch(() => []);
    if (item?.id) open({ type: kind, id: item.id });
  }

  const open = (entity: Entity) => go({ view: "map", type: entity.type, id: entity.id, user: undefined });

  function circle(line: number[]) {
    setCircling(false);
    if (!atlas || !plane.current) return;
    const points = line.flatMap((_, i) => (i % 2 ? [] : plane.current!.toPlane(line[i]!, line[i + 1]!)));
    const spots = atlas.layers.flatMap((layer, at) =>
      hidden.has(layer.type) ? [] : inside(layer.positions, points).map((row) => ({ layer: at, row })));
    setCircled(spots);
  }

  function zoom(step: number) {
    const at = plane.current;
    if (at) at.fly(step ? { ...at.camera, zoom: at.camera.zoom + step } : at.whole());
  }

  const toggle = (name: string) => setHidden((before) => {
    const next = new Set(before);
    if (!next.delete(name)) next.add(name);
    return next;
  });

  const total = atlas?.layers.reduce((sum, layer) => sum + layer.count, 0) ?? 0;
  const [few, many] = plane.current?.shown() ?? [0, 0];
  const fewer = few < many && !plane.current?.isMoving ? `This machine draws slowly: ${compact(few)} of ${compact(many)} points are shown, a fair sample. Pointing, circling and searching know all.` : "";
  const offered = attributes ? [...colourable(attributes).keys()] : [];
  return (
    <div class="map">
      <h1 class="unseen">Map of all entities</h1>
      <div class="plane" ref={place} role="img" onMouseMove={onMove} onMouseLeave={() => { clearTimeout(hover.current); setTip(undefined); }}
        onClick={onClick} data-ready={atlas ? "true" : undefined}
        aria-label={`A map of ${count(total)} entities. Search finds what you can not point at.`} />
      {circling && <Lasso onDone={circle} onCancel={() => setCircling(false)} />}
      {plane.current && told && sidePlaces(told.labels, plane.current).map(({ label, left, top }) => (
        <span key={label.text} class={`label ${label.kind}`} style={{ transform: `translate(${left}px, ${top}px)` }}><bdi>{label.text}</bdi></span>
      ))}
      {tip && (
        <div class="tip" style={{ transform: `translate(${tip.x + 14}px, ${tip.y + 10}px)` }}>
          <b><bdi>{tip.item.label ?? tip.item.id}</bdi></b><br /><span>{tip.type}{tip.item.cluster != null && ` · cluster ${tip.item.cluster}`}</span>
        </div>
      )}
      <div class="panels">
        <section class="panel controls" aria-label="Map controls">
          <Suggest label="Find anything" placeholder="an id or a name" value={id ?? user ?? ""} onChoose={open} />
          <label>Colour by<select id="colour" value={by} onChange={(event) => go({ view: "map", colour: event.currentTarget.value === "cluster" ? undefined : event.currentTarget.value })}>
            <option value="cluster">cluster</option><option value="type">type</option>
            {offered.length > 0 && <optgroup label="What they have">{offered.map((one) => <option key={one} value={`.${one}`}>{one}</option>)}</optgroup>}
            {by.startsWith(".") && !offered.includes(by.slice(1)) && <option value={by}>{by.slice(1)}</option>}
          </select></label>
          {colours && atlas && <Legend colours={colours} by={by} layers={atlas.layers.filter((one) => !hidden.has(one.type))} />}
          {atlas && (
            <fieldset>
              <legend>Shown</legend>
              {atlas.layers.map((layer, i) => (
                <label key={layer.type} class="choice"><input type="checkbox" checked={!hidden.has(layer.type)} onChange={() => toggle(layer.type)} />
                  {by === "type" && <i class="dot" style={{ background: css(ofType(i)) }} />} {layer.type} <span class="soft">{compact(layer.count)}</span></label>
              ))}
            </fieldset>
          )}
          <div class="row">
            <button onClick={() => { setCircled(undefined); setCircling(!circling); }} aria-pressed={circling} disabled={!atlas?.layers.length}>
              {circling ? "Draw around points…" : "Circle"}</button>
            <button class="quiet" onClick={() => zoom(1)} aria-label="Zoom in">+</button>
            <button class="quiet" onClick={() => zoom(-1)} aria-label="Zoom out">−</button>
            <button class="quiet" onClick={() => zoom(0)}>All</button>
          </div>
        </section>
        {fewer && <p class="panel small soft">{fewer}</p>}
        {told && <StoryPanel story={told.story} />}
        {circled && atlas && <CircledPanel atlas={atlas} spots={circled} onOpen={open} onClose={() => setCircled(undefined)} />}
      </div>
      {!atlas && !problem && <p class="middle soft" role="status">Loading the map…</p>}
      {problem && <div class="middle problem" role="alert"><p>{problem}</p><button onClick={() => setAgain(again + 1)}>Try again</button></div>}
      {atlas && !atlas.layers.length && (
        <div class="middle"><p>This version was built without a map.</p>
          <p class="soft">Build the next one without <code>--no-map</code>, and with <code>map.points</code> above 0. Everything else works without.</p></div>
      )}
    </div>
  );
}
