// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import { INSTALLATIONS, type Installation, MANAGED_ANNOTATION } from "../../crds/installation.ts";
import { DEPLOYMENTS, type Deployment } from "../../crds/workloads.ts";
import type { KubeClient } from "../../kube/api.ts";
import { NotFoundError } from "../../kube/errors.ts";
import { type Change, previewPlan } from "../../operator/apply-preview.ts";
import { KubeCluster } from "../../operator/kube-cluster.ts";
import {
  chooseInstallation,
  type Plan,
  planInstallation,
  questionsOf,
  secondInstallation,
} from "../../operator/plan.ts";
import { type Problem, problemText } from "../../operator/problem.ts";
import { AGENT, NAMESPACE, OPERATOR } from "../../operator/render/names.ts";
import { type Command, type CommandContext, defineCommand, EXIT } from "../command.ts";
import { UsageError } from "../errors.ts";
import { styleOf } from "../output/style.ts";

export const command: Command = defineCommand({
  usage: `gingham operator plan: what an Installation would change in the cluster

  gingham operator plan -f installation.yaml [--image IMAGE]

  -f, --file FILE   the Installation; - reads it from stdin
      --image IMAGE what the agents would run (default: the image of the operator that is installed)

Asks the API server what each write would do, and writes nothing. It takes the operator's rights, or an administrator's.
Exit status 1 when the operator would refuse the Installation, or the API server one of the writes.
`,
  options: { file: { type: "string", short: "f" }, image: { type: "string" } },
  run: async ({ values, positionals }, context) => {
    if (positionals.length > 0) throw new UsageError(`${JSON.stringify(positionals[0])} is not understood`);
    if (values.file === undefined) throw new UsageError("which Installation? Name its file with -f");
    const given = await readInstallation(values.file);
    const client = await context.connect();
    const { image, pullSecretNamespace } = await operatorSettings(client, values.image);
    const cluster = new KubeCluster(client, { ...(pullSecretNamespace && { pullSecretNamespace }) });
    return await showPlan(given, { cluster, image, context });
  },
});

interface Tools {
  readonly cluster: KubeCluster;
  readonly image: string;
  readonly context: CommandContext;
}

async function showPlan(given: Installation, { cluster, image, context }: Tools): Promise<number> {
  const signal = new AbortController().signal;
  const facts = await cluster.facts(({ pools }) => questionsOf(given, pools, image), signal);
  const stored = facts.installations.find(({ metadata }) => metadata.name === given.metadata.name);
  const installation = planned(given, stored);
  const others = facts.installations.filter((one) => one !== stored);
  const { active } = chooseInstallation([...others, installation]);
  const plan = planInstallation({ installation, facts, image });
  const second = active === undefined || active === installation ? [] : [secondInstallation(active)];
  const problems = [...second, ...plan.problems];
  const notes = [...plan.notes, ...(active === undefined ? [notOurs(given)] : [])];
  const changes = problems.length === 0 ? await previewPlan(plan, cluster, signal) : [];
  const report = { problems, changes, notes, ignored: plan.ignored };
  await context.show(() => renderReport(report, plan, context), report);
  return problems.length > 0 || changes.some(({ action }) => action === "refused") ? EXIT.problem : EXIT.ok;
}

/** As it would be after `kubectl apply`. */
function planned(given: Installation, stored: Installation | undefined): Installation {
  if (stored === undefined) return given;
  const annotations = { ...stored.metadata.annotations, ...given.metadata.annotations };
  return { ...given, metadata: { ...stored.metadata, annotations } };
}

function notOurs({ metadata: { name } }: Installation): string {
  return `Installation ${name} lacks the annotation ${MANAGED_ANNOTATION}: "true": without it the operator does not act`;
}

async function readInstallation(file: string): Promise<Installation> {
  let text: string;
  try {
    text = readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (error) {
    throw new UsageError(`${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
  const { CORE_SCHEMA, loadAll } = await import("js-yaml");
  let documents: unknown[];
  try {
    documents = loadAll(text, { schema: CORE_SCHEMA });
  } catch (error) {
    throw new UsageError(`${file} is not YAML: ${error instanceof Error ? error.message : String(error)}`);
  }
  const found = documents.filter(isInstallation);
  const [one] = found;
  if (one === undefined || found.length > 1)
    throw new UsageError(`${file} has ${found.length} objects of the kind Installation, want one with a name`);
  return one;
}

function isInstallation(document: unknown): document is Installation {
  const { kind, apiVersion, metadata } = (document ?? {}) as Partial<Installation>;
  const isOne = kind === INSTALLATIONS.kind && apiVersion === `${INSTALLATIONS.group}/${INSTALLATIONS.version}`;
  return isOne && typeof metadata?.name === "string";
}

interface Container {
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
}

interface OperatorSettings {
  /** What it gives its agents. */
  readonly image: string;
  readonly pullSecretNamespace: string | undefined;
}

/** Of the operator in the cluster, unless told otherwise. */
async function operatorSettings(client: KubeClient, givenImage: string | undefined): Promise<OperatorSettings> {
  const operator = await client.get(DEPLOYMENTS, OPERATOR, { namespace: NAMESPACE }).catch((error: unknown) => {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  });
  const { spec } = (operator ?? {}) as Deployment & {
    readonly spec?: { readonly template?: { readonly spec?: { readonly containers?: readonly Container[] } } };
  };
  const variables = spec?.template?.spec?.containers?.flatMap(({ env = [] }) => env) ?? [];
  const variable = (wanted: string): string | undefined => variables.find(({ name }) => name === wanted)?.value;
  const image = givenImage ?? variable("GINGHAM_IMAGE");
  if (image === undefined)
    throw new UsageError(
      `there is no Deployment ${NAMESPACE}/${OPERATOR} that says which image to install: give --image`,
    );
  return { image, pullSecretNamespace: variable("GINGHAM_PULL_SECRET_NAMESPACE") };
}

interface Report {
  readonly problems: readonly Problem[];
  readonly changes: readonly Change[];
  readonly notes: readonly string[];
  readonly ignored: readonly string[];
}

/** Longest value that is shown whole. */
const MAX_VALUE = 60;

function renderReport({ problems, changes, notes, ignored }: Report, plan: Plan, context: CommandContext): string {
  const style = styleOf(context.hasColor);
  const lines: string[] = [];
  if (problems.length > 0) {
    lines.push("The operator would change nothing and turn Degraded:", "");
    lines.push(...problems.map((problem) => style.bad(`  ${problem.reason}  ${problemText(problem)}`)));
  }
  const marks = { create: "+", change: "~", remove: "-", extend: "~", refused: "!", keep: " " } as const;
  for (const { object, action, fields, reason } of changes) {
    if (action === "keep") continue;
    const line = `${marks[action]} ${object}${reason === undefined ? "" : `: ${reason}`}`;
    lines.push(action === "refused" || action === "remove" ? style.bad(line) : style.bold(line));
    lines.push(...fields.map(({ path, from, to }) => `    ${path}: ${shown(from)} -> ${shown(to)}`));
  }
  const kept = changes.filter(({ action }) => action === "keep").length;
  if (problems.length === 0) {
    const changed = changes.length - kept;
    lines.push(...(changed === 0 ? [] : [""]), `${changed} of ${changes.length} objects would change.`);
    const agents = changes.find(({ object }) => object === `DaemonSet ${NAMESPACE}/${AGENT}`);
    if (agents?.fields.some(({ path }) => path.startsWith("spec.template")))
      lines.push(
        `Agents would be replaced, ${plan.maxUnavailable} at a time; pods keep running and keep their addresses.`,
      );
  }
  lines.push(...notes.map((note) => style.warn(`Note: ${note}.`)));
  if (ignored.length > 0) lines.push(style.dim(`Without effect here: ${ignored.join("; ")}.`));
  return `${lines.join("\n")}\n`;
}

function shown(value: unknown): string {
  if (value === undefined) return "(absent)";
  const text = JSON.stringify(value);
  return text.length > MAX_VALUE ? `${text.slice(0, MAX_VALUE)}…` : text;
}
