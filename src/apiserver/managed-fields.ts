// SPDX-License-Identifier: Apache-2.0
import type { ApiObject } from "./model.ts";
import type { ResourceDef } from "./resource.ts";

export function recordManager(
  _def: ResourceDef,
  _old: ApiObject,
  _next: ApiObject,
  _manager: string,
  _subresource: string,
  _time: string,
): void {}
