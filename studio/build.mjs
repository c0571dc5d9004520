// Builds the studio into service/ui, where the service and the wheel have it. The same sources give the same bytes.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, "..", "service", "ui");

const { metafile } = await build({
  metafile: true,
  entryPoints: { app: join(here, "src", "main.tsx") },
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  // The library asks for these of a process that a page has not.
  define: { "process.env.NODE_ENV": '"production"' },
  absWorkingDir: here,
  outdir: out,
});
const page = readFileSync(join(here, "index.html"));
writeFileSync(join(out, "index.html"), page);

// The licences of the packages whose code is in app.js ask that their notices go with it.
const packages = new Set();
for (const input of Object.keys(metafile.inputs)) {
  const name = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1];
  if (name) packages.add(name);
}
const notices = [...packages].sort().map((name) => {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
  const text = file ? readFileSync(join(folder, file), "utf8").trim() : "(the package carries no text of it)";
  return `${name} ${version}, ${license}\n\n${text}\n`;
});
writeFileSync(join(out, "NOTICES.txt"), notices.join(`\n${"-".repeat(80)}\n\n`));

// What was built from what: a test compares both with the tree.
const sha256 = (path) => createHash("sha256").update(readFileSync(path)).digest("hex");
const sources = ["build.mjs", "index.html", "package.json", "package-lock.json", "tsconfig.json"];
for (const entry of readdirSync(join(here, "src"), { recursive: true, withFileTypes: true })) {
  if (entry.isFile()) sources.push(relative(here, join(entry.parentPath, entry.name)));
}
const digests = (root, names) => Object.fromEntries(names.sort().map((name) => [name, sha256(join(root, name))]));
const record = { sources: digests(here, sources), built: digests(out, ["NOTICES.txt", "app.css", "app.js", "index.html"]) };
writeFileSync(join(out, "build.json"), JSON.stringify(record, null, 1) + "\n");
