// A form for the filter of a question, made from the attributes that candidates have; what it cannot show stays text.
import { useEffect, useId, useState } from "preact/hooks";
import type { Attribute } from "../api";
import { compact, measure } from "../format";
import { type Comparison, type Condition, type Degree, type Group, OPS, type Op, fresh, jsonOf, nothing, treeOf } from "./conditions";

interface Props { text: string; invalid: boolean; attributes: Attribute[]; type: string; onChange: (filter: string) => void }

export function FilterForm({ text, invalid, attributes, type, onChange }: Props) {
  const kinds = new Map(attributes.map((one) => [one.name, one.kind]));
  const [tree, setTree] = useState<Group>();
  const [open, setOpen] = useState(text !== "");
  // What was typed but says nothing yet is kept, as long as the address says the same.
  const written = (group: Group) => { const said = jsonOf(group, kinds); return said ? JSON.stringify(said) : ""; };
  useEffect(() => {
    if (text) setOpen(true);
    if (tree && written(tree) === text) return;
    if (!text) return setTree(nothing());
    try {
      setTree(treeOf(JSON.parse(text), kinds));
    } catch {
      setTree(undefined);
    }
  }, [text, attributes]);

  function change(next: Group) {
    setTree(next);
    if (written(next) !== text) onChange(written(next));
  }

  const size = tree?.parts.length ?? 0;
  return (
    <details class="filter" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Filter{size > 0 && <span class="badge same">{size === 1 ? "1 condition" : `${size} conditions`}</span>}</summary>
      {tree && (attributes.length > 0 ? <GroupForm of={tree} attributes={attributes} onChange={change} />
        : <p class="soft small">Entities of type {type} came without attributes; they can be filtered by how many edges lead to them.
            <button type="button" class="link" onClick={() => change({ ...tree, parts: [...tree.parts, { kind: "degree", not: false, least: "" }] })}> Add that</button></p>)}
      {tree && attributes.length === 0 && tree.parts.length > 0 && <GroupForm of={tree} attributes={attributes} onChange={change} />}
      {!tree && text && <p class="soft small">This filter says more than the form can show. It counts as it is written.</p>}
      <label>The same as JSON<input id="filter-json" value={text} spellcheck={false} onChange={(event) => onChange(event.currentTarget.value)}
        placeholder={'{"attribute": "…", "is": "…"}'} aria-invalid={invalid} /></label>
    </details>
  );
}

function GroupForm({ of, attributes, onChange, onRemove }: { of: Group; attributes: Attribute[]; onChange: (group: Group) => void; onRemove?: () => void }) {
  const put = (i: number, part: Condition) => onChange({ ...of, parts: of.parts.map((one, j) => (i === j ? part : one)) });
  const remove = (i: number) => onChange({ ...of, parts: of.parts.filter((_, j) => j !== i) });
  const add = (part: Condition) => onChange({ ...of, parts: [...of.parts, part] });
  return (
    <fieldset class="conditions">
      <legend class="unseen">Conditions</legend>
      {(of.parts.length > 1 || onRemove) && (
        <div class="row">
          <select aria-label="How many of these conditions must hold" value={`${of.not ? "not " : ""}${of.how}`}
            onChange={(event) => onChange({ ...of, not: event.currentTarget.value.startsWith("not"), how: event.currentTarget.value.endsWith("any") ? "any" : "all" })}>
            <option value="all">all of these</option><option value="any">any of these</option>
            {onRemove && <><option value="not all">not all of these</option><option value="not any">none of these</option></>}
          </select>
          {onRemove && <button type="button" class="quiet" aria-label="Take the group away" onClick={onRemove}>×</button>}
        </div>
      )}
      {of.parts.map((part, i) => (
        part.kind === "group" ? <GroupForm key={i} of={part} attributes={attributes} onChange={(next) => put(i, next)} onRemove={() => remove(i)} />
          : <div key={i} class="row condition">
              {part.kind === "degree" ? <DegreeForm of={part} onChange={(next) => put(i, next)} />
                : <ComparisonForm of={part} attributes={attributes} onChange={(next) => put(i, next)} />}
              <button type="button" class="quiet" aria-label="Take the condition away" onClick={() => remove(i)}>×</button>
            </div>
      ))}
      {(attributes.length > 0 || of.parts.length > 0) && (
        <div class="row">
          {attributes.length > 0 && <button type="button" class="quiet" onClick={() => add(fresh(attributes[0]!))}>Add a condition</button>}
          <button type="button" class="quiet" onClick={() => add({ kind: "degree", not: false, least: "" })}>By edges</button>
          {attributes.length > 0 && <button type="button" class="quiet" onClick={() => add({ ...nothing(), how: "any", parts: [fresh(attributes[0]!), fresh(attributes[0]!)] })}>Add a group</button>}
        </div>
      )}
    </fieldset>
  );
}

const Not = ({ of, onChange }: { of: Condition; onChange: (not: boolean) => void }) => (
  <label class="choice"><input type="checkbox" checked={of.not} onChange={(event) => onChange(event.currentTarget.checked)} /> not</label>
);

function DegreeForm({ of, onChange }: { of: Degree; onChange: (next: Degree) => void }) {
  return <>
    <Not of={of} onChange={(not) => onChange({ ...of, not })} />
    <span>edges in, at least</span>
    <input type="number" min="0" class="short" aria-label="Edges in, at least" value={of.least} onChange={(event) => onChange({ ...of, least: event.currentTarget.value })} />
  </>;
}

function ComparisonForm({ of, attributes, onChange }: { of: Comparison; attributes: Attribute[]; onChange: (next: Comparison) => void }) {
  const about = attributes.find((one) => one.name === of.attribute) ?? attributes[0]!;
  return <>
    <Not of={of} onChange={(not) => onChange({ ...of, not })} />
    <select aria-label="Attribute" value={of.attribute} onChange={(event) => onChange({ ...fresh(attributes.find((one) => one.name === event.currentTarget.value)!), not: of.not })}>
      {attributes.map((one) => <option key={one.name} value={one.name}>{one.name}</option>)}
    </select>
    <select aria-label="Comparison" value={of.op} onChange={(event) => onChange({ ...of, op: event.currentTarget.value as Op })}>
      {OPS[about.kind].map(([op, words]) => <option key={op} value={op}>{words}</option>)}
    </select>
    {of.op !== "exists" && <Value of={of} about={about} onChange={onChange} />}
  </>;
}

function Value({ of, about, onChange }: { of: Comparison; about: Attribute; onChange: (next: Comparison) => void }) {
  const id = useId();
  const set = (event: { currentTarget: { value: string } }) => onChange({ ...of, value: event.currentTarget.value });
  const values = about.values ?? [];
  if (about.kind === "boolean") return <select aria-label="Value" value={of.value} onChange={set}><option value="">…</option><option value="true">true</option><option value="false">false</option></select>;
  if (of.op === "in") return <SetOf of={of} about={about} onChange={onChange} />;
  if (about.kind === "category" && values.length === about.distinct) {
    return (
      <select aria-label="Value" value={of.value} onChange={set}>
        <option value="">…</option>
        {values.map((one) => <option key={one.value} value={one.value}>{one.value} ({compact(one.count)})</option>)}
        {of.value && !values.some((one) => one.value === of.value) && <option value={of.value}>{of.value}</option>}
      </select>
    );
  }
  const [low, , middle, , high] = about.quantiles ?? [];
  const hint = low !== undefined ? `${measure(low, about.kind)} … ${measure(high!, about.kind)}, half below ${measure(middle!, about.kind)}` : "";
  const kind = about.kind === "timestamp" ? "date" : about.kind === "number" ? "number" : "text";
  return <>
    <input aria-label="Value" type={kind} step="any" value={kind === "date" ? of.value.slice(0, 10) : of.value} onChange={set} list={kind === "text" ? id : undefined} />
    {kind === "text" && <datalist id={id}>{values.map((one) => <option key={one.value} value={one.value} />)}</datalist>}
    {hint && <span class="soft small">{hint}</span>}
  </>;
}

/** Several values of a category: those chosen as chips, and a box to add one. */
function SetOf({ of, about, onChange }: { of: Comparison; about: Attribute; onChange: (next: Comparison) => void }) {
  const id = useId();
  const left = (about.values ?? []).filter((one) => !of.values.includes(one.value));
  const add = (value: string) => { if (value && !of.values.includes(value)) onChange({ ...of, values: [...of.values, value] }); };
  return <>
    {of.values.map((value) => (
      <span key={value} class="chip"><bdi>{value}</bdi> <button type="button" class="quiet" aria-label={`Take ${value} away`} onClick={() => onChange({ ...of, values: of.values.filter((one) => one !== value) })}>×</button></span>
    ))}
    {(about.values?.length ?? 0) === about.distinct
      ? left.length > 0 && <select aria-label="Add a value" value="" onChange={(event) => add(event.currentTarget.value)}><option value="">add…</option>{left.map((one) => <option key={one.value} value={one.value}>{one.value} ({compact(one.count)})</option>)}</select>
      : <><input aria-label="Add a value" placeholder="add…" list={id} value="" onChange={(event) => { add(event.currentTarget.value.trim()); event.currentTarget.value = ""; }} />
          <datalist id={id}>{left.map((one) => <option key={one.value} value={one.value} />)}</datalist></>}
  </>;
}
