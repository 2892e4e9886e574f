// SPDX-License-Identifier: Apache-2.0
import { type KindDefinition, renderCRD } from "../crds/definition.ts";
import type { InstalledCRD } from "../crds/installed-crd.ts";
import { KINDS } from "../crds/kinds.ts";
import { isOurs, MANAGER } from "./judge-pools.ts";
import type { Permission, Problem } from "./problem.ts";
import type { Manifest } from "./render/manifest.ts";
import { MANAGED_BY_LABEL } from "./render/names.ts";

/** What becomes of the CRDs of our kinds. None is ever deleted: its objects would go with it. */
export interface CRDPlan {
  /** Absent, or made by us before. */
  readonly apply: readonly Manifest[];
  /** Somebody else's that are to have what they lack: operations of a JSON patch. */
  readonly extend: readonly { readonly crd: InstalledCRD; readonly operations: readonly object[] }[];
  readonly problems: readonly Problem[];
  readonly notes: readonly string[];
}

/** Decides for each kind, by the CRD of its name that is there. */
export function planCRDs(present: ReadonlyMap<string, InstalledCRD>, permissions: ReadonlySet<Permission>): CRDPlan {
  const apply: Manifest[] = [];
  const extend: CRDPlan["extend"][number][] = [];
  const problems: Problem[] = [];
  const lacking: string[] = [];
  for (const kind of KINDS) {
    const rendered = renderCRD(kind);
    const crd = present.get(rendered.metadata.name);
    if (crd === undefined || isOurs(crd)) {
      const labels = { "app.kubernetes.io/part-of": "gingham", [MANAGED_BY_LABEL]: MANAGER };
      apply.push({ ...rendered, metadata: { ...rendered.metadata, labels } });
      continue;
    }
    const problem = versionProblem(crd, kind);
    if (problem !== undefined) {
      problems.push(problem);
      continue;
    }
    const operations = extensionOf(crd, kind);
    if (operations.length === 0) continue;
    if (permissions.has("ExtendCRDs")) extend.push({ crd, operations });
    else lacking.push(kind.resource.plural);
  }
  const notes =
    lacking.length === 0
      ? []
      : [
          `The CRDs of ${lacking.join(", ")} are another's and lack columns or the status: gingham.dev/allow: ExtendCRDs adds them`,
        ];
  return { apply, extend, problems, notes };
}

function versionProblem(crd: InstalledCRD, { resource }: KindDefinition): Problem | undefined {
  const { version, plural } = resource;
  const found = crd.spec.versions.find(({ name }) => name === version);
  if (found?.served !== false && found !== undefined) return undefined;
  const served = crd.spec.versions.filter((v) => v.served !== false).map(({ name }) => name);
  return {
    reason: "CRDVersion",
    field: `CustomResourceDefinition ${crd.metadata.name}`,
    message: `${plural} are served as ${served.join(", ") || "nothing"}, and Gingham needs ${version}: install a release whose CRDs have it, or remove this CRD if nothing uses it`,
  };
}

/** Adds columns to a version that has none, and the status to IPAMBlocks; takes nothing away. */
function extensionOf(
  crd: InstalledCRD,
  { resource, status, statusSubresource, printerColumns }: KindDefinition,
): object[] {
  const at = crd.spec.versions.findIndex(({ name }) => name === resource.version);
  const version = crd.spec.versions[at];
  if (version === undefined) return [];
  const path = `/spec/versions/${at}`;
  const add = (field: string, value: unknown): object => ({ op: "add", path: `${path}/${field}`, value });
  const operations: object[] = [];
  if ((version.additionalPrinterColumns ?? []).length === 0)
    operations.push(add("additionalPrinterColumns", printerColumns));
  if (statusSubresource && version.subresources?.status === undefined) {
    operations.push(add("subresources", { ...version.subresources, status: {} }));
    if (version.schema?.openAPIV3Schema?.properties?.["status"] === undefined)
      operations.push(add("schema/openAPIV3Schema/properties/status", status));
  }
  return operations;
}
