// SPDX-License-Identifier: Apache-2.0

/** The part of Kubernetes' ObjectMeta that Gingham reads or writes; other fields pass through untouched. */
export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly finalizers?: readonly string[];
  readonly ownerReferences?: readonly OwnerReference[];
}

/** Whose part an object is: it is deleted with its owners. At most one of them is the controller. */
export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
}

/** What every API object has. */
export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
}

/** Where a kind is served: everything a generic client needs to build a URL. `group` is "" for the core group. */
export interface Resource<T extends KubeObject> {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
  /**
   * Checks an object and gives it its type (64-bit integers as bigint, defaults of absent fields). Clients apply it to
   * all they read. Absent for Kubernetes' own kinds, whose server has checked them. @throws InvalidObjectError
   */
  readonly parse?: (raw: unknown) => T;
  /** Never set: carries the object's type, so that `client.get(NODES, …)` is typed. */
  readonly __object?: T;
}
