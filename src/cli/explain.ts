// SPDX-License-Identifier: Apache-2.0
import { ForbiddenError, NotFoundError, UnreachableError } from "../kube/errors.ts";
import { describeError } from "../lib/errors.ts";

/** What went wrong and what to do, for a person at a terminal. */
export function explainError(error: unknown): string {
  const cause = rootKubeError(error);
  const text = describeError(error);
  if (cause instanceof ForbiddenError && cause.status === 403) {
    const [plural = "", ...group] = cause.resource.split(".");
    const api = group.length === 0 ? 'the core group ("")' : `apiGroup ${group.join(".")}`;
    return `${text}\nThe account of this kubeconfig lacks the right: ${cause.verb} on ${plural}, ${api}`;
  }
  if (cause instanceof NotFoundError && cause.objectName === undefined) {
    return `${text}\nThis cluster does not have the kind ${cause.resource}: install Gingham's CRDs with kubectl apply --server-side -f manifests/crds`;
  }
  if (cause instanceof UnreachableError) {
    return `${text}\nNo connection to the API server: is this the right kubeconfig (--kubeconfig, KUBECONFIG)?`;
  }
  return text;
}

function rootKubeError(error: unknown): unknown {
  for (let e = error; e !== undefined && e !== null; e = e instanceof Error ? e.cause : undefined) {
    if (e instanceof ForbiddenError || e instanceof NotFoundError || e instanceof UnreachableError) return e;
  }
  return undefined;
}
