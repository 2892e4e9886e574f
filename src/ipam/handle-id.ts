// SPDX-License-Identifier: Apache-2.0
import { handleName } from "../crds/names.ts";
import { IPAMError } from "./errors.ts";

/** RFC 1123 subdomain, which the name of a custom resource must be. */
const OBJECT_NAME = /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/;
const MAX_LENGTH = 253;

/** A historical migration from host-local left handles with a tail behind a carriage return; Calico cuts it off, too. Source: calico-interop 1.7. */
export function withoutTail(handleID: string): string {
  const end = handleID.indexOf("\r");
  return end < 0 ? handleID : handleID.slice(0, end);
}

/** A handle's object is named by its ID in lower case, without escaping, so not every ID will do. @throws IPAMError */
export function checkHandleID(handleID: string): void {
  const name = handleName(handleID);
  const step = "shorten or rename the network in the CNI configuration";
  if (name.length > MAX_LENGTH) {
    const what = `Cannot use handle ID ${handleID}: ${name.length} characters, an object name has at most ${MAX_LENGTH}`;
    throw new IPAMError("InvalidHandle", `${what}; ${step}`);
  }
  if (!OBJECT_NAME.test(name)) {
    const what = `Cannot use handle ID ${JSON.stringify(handleID)}: an object name has only letters, digits, "-" and "."`;
    throw new IPAMError("InvalidHandle", `${what}, and begins and ends with a letter or digit; ${step}`);
  }
}
