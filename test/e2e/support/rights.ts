// SPDX-License-Identifier: Apache-2.0
import type { Manifest } from "../../../src/operator/render/manifest.ts";
import type { Rule } from "../../../src/operator/render/rbac.ts";
import { renderInstall } from "../../../src/operator/render/render.ts";
import { DEFAULT_SETTINGS } from "../../../src/operator/render/settings.ts";

const SETTINGS = { ...DEFAULT_SETTINGS, image: "gingham" };

export type Account = "gingham-agent" | "gingham-controller";

/** A rule, and where it holds; absent: everywhere. */
export interface Right extends Rule {
  readonly namespace?: string;
}

/** What somebody asks of the API server. */
export interface Asked {
  readonly verb: string;
  readonly group: string;
  /** With its subresource: `nodes/status`. */
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
}

/** The one object of a kind. */
export function installedObject(kind: string): Manifest {
  const found = renderInstall(SETTINGS).find((object) => object.kind === kind);
  if (found === undefined) throw new Error(`Nothing of the kind ${kind} is installed`);
  return found;
}

/** The rules of the installed roles, by the account that they are bound to. */
export function rightsOfInstall(): Readonly<Record<Account, readonly Right[]>> {
  const objects = renderInstall(SETTINGS);
  const bindings = objects.filter(({ kind }) => kind.endsWith("Binding")) as (Manifest & {
    readonly roleRef: { readonly kind: string; readonly name: string };
    readonly subjects: readonly { readonly name: string }[];
  })[];
  const of = (account: Account): readonly Right[] =>
    bindings
      .filter(({ subjects }) => subjects.some(({ name }) => name === account))
      .flatMap(({ roleRef, metadata: { namespace } }) => {
        const role = objects.find(
          ({ kind, metadata }) =>
            kind === roleRef.kind && metadata.name === roleRef.name && metadata.namespace === namespace,
        );
        const rules = (role?.["rules"] ?? []) as readonly Rule[];
        return rules.map((rule) => (namespace === undefined ? rule : { ...rule, namespace }));
      });
  return { "gingham-agent": of("gingham-agent"), "gingham-controller": of("gingham-controller") };
}

/** As RBAC judges. Source: Kubernetes, Using RBAC Authorization. */
export function isAllowed(rights: readonly Right[], asked: Asked): boolean {
  return rights.some((right) => singleRights([right]).some((single) => matches(single, asked)));
}

/** One verb for one resource. */
export interface SingleRight {
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  readonly names?: readonly string[];
  readonly namespace?: string;
}

export function singleRights(rights: readonly Right[]): readonly SingleRight[] {
  return rights.flatMap(({ apiGroups, resources, verbs, resourceNames: names, namespace }) =>
    apiGroups.flatMap((group) =>
      resources.flatMap((resource) =>
        verbs.map((verb) => ({ verb, group, resource, ...(names && { names }), ...(namespace && { namespace }) })),
      ),
    ),
  );
}

export function matches({ verb, group, resource, names, namespace }: SingleRight, asked: Asked): boolean {
  const isNamed = names === undefined || names.includes(asked.name);
  const isThere = namespace === undefined || namespace === asked.namespace;
  return verb === asked.verb && group === asked.group && resource === asked.resource && isNamed && isThere;
}
