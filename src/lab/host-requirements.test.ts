// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { checkRequirements, widenPath } from "./host-requirements.ts";

test("widenPath() adds the sbin folders once, after the user's own", () => {
  expect(widenPath("/home/me/bin:/usr/bin")).toBe("/home/me/bin:/usr/bin:/usr/local/sbin:/usr/sbin:/sbin:/bin");
  expect(widenPath(undefined)).toBe("/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin");
});

test("checkRequirements() prints the line that installs what is missing", () => {
  expect(() => checkRequirements("/nowhere", [], [4])).toThrow(
    /Missing: unshare, .*sudo apt-get install -y .*fping.*util-linux/,
  );
});
