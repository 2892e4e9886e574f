// SPDX-License-Identifier: Apache-2.0

/** The plugin does not do what the specification says. */
export class Violation extends Error {}

/** The check has nothing to say about this plugin. */
export class NotApplicable extends Error {}
