// SPDX-License-Identifier: Apache-2.0

/** The virtual machine cannot be had here; nothing is known of what it would have tested. */
export class NotRunError extends Error {}
