// SPDX-License-Identifier: Apache-2.0
import type { KubeObject, Resource } from "../../../../src/crds/object.ts";
import type { CallOptions, KubeClient } from "../../../../src/kube/api.ts";
import { HTTPKubeClient as RealClient } from "../../../../src/kube/client.ts";
import { around } from "./points.ts";

/** What calls write. Statuses of nodes and blocks are written in the background, at times of their own. */
const KINDS: ReadonlySet<string> = new Set(["ipamblocks", "ipamhandles", "blockaffinities", "pods"]);

/** The real client with a fault point at each write. */
export class HTTPKubeClient extends RealClient {
  override create<T extends KubeObject>(resource: Resource<T>, object: T, options?: CallOptions): Promise<T> {
    return write("create", resource, () => super.create(resource, object, options));
  }

  override update<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    options: Parameters<KubeClient["update"]>[2] = {},
  ): Promise<T> {
    const put = (): Promise<T> => super.update(resource, object, options);
    return options.subresource === undefined ? write("update", resource, put) : put();
  }

  override patch<T extends KubeObject>(
    resource: Resource<T>,
    name: string,
    patch: Parameters<KubeClient["patch"]>[2],
    options?: Parameters<KubeClient["patch"]>[3],
  ): Promise<T> {
    return write("patch", resource, () => super.patch(resource, name, patch, options));
  }

  override delete<T extends KubeObject>(
    resource: Resource<T>,
    name: string,
    options?: Parameters<KubeClient["delete"]>[2],
  ): Promise<void> {
    return write("delete", resource, () => super.delete(resource, name, options));
  }
}

function write<T>(verb: string, { plural }: Resource<KubeObject>, call: () => Promise<T>): Promise<T> {
  return KINDS.has(plural) ? around(`${verb} ${plural}`, call) : call();
}
