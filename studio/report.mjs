// Builds the script and the style of reports into evaluation/report/assets. The same sources give the same bytes.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, "..", "evaluation", "report", "assets");

await build({
  entryPoints: { report: join(here, "report", "main.ts") },
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  legalComments: "none",
  // What its licence asks for, in every page that carries it.
  banner: { js: "/* With uPlot, Copyright (c) Leon Sorokin, MIT licence: https://github.com/leeoniya/uPlot/blob/master/LICENSE */" },
  absWorkingDir: here,
  outdir: out,
});

// What was built from what: a test compares both with the tree.
const sha256 = (path) => createHash("sha256").update(readFileSync(path)).digest("hex");
const digests = (root, names) => Object.fromEntries(names.sort().map((name) => [name, sha256(join(root, name))]));
const sources = ["report.mjs", ...readdirSync(join(here, "report")).map((name) => `report/${name}`)];
const record = { sources: digests(here, sources), built: digests(out, ["report.css", "report.js"]) };
writeFileSync(join(out, "build.json"), JSON.stringify(record, null, 1) + "\n");
