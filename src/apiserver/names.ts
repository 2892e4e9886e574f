// SPDX-License-Identifier: Apache-2.0
import type { Cause } from "./errors.ts";
import { type ApiObject, isObject } from "./model.ts";
import type { NameRule } from "./resource.ts";

interface Rule {
  readonly regexp: RegExp;
  readonly maxLength: number;
  readonly text: string;
}

const LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN = `${LABEL}(\\.${LABEL})*`;
const SERVICE = "[a-z]([-a-z0-9]*[a-z0-9])?";

/** Source: Kubernetes documentation, Object Names and IDs; the texts are kube-apiserver's. */
const RULES: Readonly<Record<NameRule, Rule>> = {
  subdomain: {
    regexp: new RegExp(`^${SUBDOMAIN}$`),
    maxLength: 253,
    text:
      "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start " +
      `and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '${SUBDOMAIN}')`,
  },
  label: {
    regexp: new RegExp(`^${LABEL}$`),
    maxLength: 63,
    text:
      "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end " +
      `with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '${LABEL}')`,
  },
  service: {
    regexp: new RegExp(`^${SERVICE}$`),
    maxLength: 63,
    text:
      "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, " +
      `and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '${SERVICE}')`,
  },
  path: {
    regexp: /^(?!\.{1,2}$)[^/%]+$/,
    maxLength: 253,
    text: "may not be '.' or '..' and may not contain '/' or '%'",
  },
};

const LABEL_VALUE = /^(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?$/;
const QUALIFIED_NAME = /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$/;
/** Units: bytes of all annotations together, as in Kubernetes. */
const MAX_ANNOTATIONS = 262_144;

export function isName(name: string, rule: NameRule): boolean {
  return name.length <= RULES[rule].maxLength && RULES[rule].regexp.test(name);
}

/** What is wrong with an object's name, labels, annotations and finalizers. */
export function checkMetadata(object: ApiObject, rule: NameRule): Cause[] {
  const { name, labels, annotations, finalizers } = object.metadata;
  return [
    ...checkName(name, rule),
    ...checkMap("metadata.labels", labels, (value) => (LABEL_VALUE.test(value) ? undefined : LABEL_VALUE_TEXT)),
    ...checkMap("metadata.annotations", annotations, () => undefined),
    ...checkAnnotationSize(annotations),
    ...checkFinalizers(finalizers),
  ];
}

function checkName(name: string, rule: NameRule): Cause[] {
  const { regexp, maxLength, text } = RULES[rule];
  if (name === "") return [required("metadata.name", "Required value: name or generateName is required")];
  const causes: Cause[] = [];
  if (!regexp.test(name)) causes.push(invalidValue("metadata.name", name, text));
  if (name.length > maxLength)
    causes.push(invalidValue("metadata.name", name, `must be no more than ${maxLength} characters`));
  return causes;
}

const LABEL_VALUE_TEXT =
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end " +
  "with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is " +
  "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

function checkMap(field: string, map: unknown, problemOf: (value: string) => string | undefined): Cause[] {
  if (map === undefined) return [];
  if (!isObject(map)) return [typeInvalid(field, "object")];
  const causes: Cause[] = [];
  for (const [key, value] of Object.entries(map)) {
    if (!QUALIFIED_NAME.test(key)) causes.push(invalidValue(field, key, "name part must be a qualified name"));
    if (typeof value !== "string") causes.push(typeInvalid(`${field}.${key}`, "string"));
    else {
      const problem = problemOf(value);
      if (problem !== undefined) causes.push(invalidValue(field, value, problem));
    }
  }
  return causes;
}

function checkAnnotationSize(annotations: unknown): Cause[] {
  if (!isObject(annotations)) return [];
  let size = 0;
  for (const [key, value] of Object.entries(annotations)) size += key.length + String(value).length;
  if (size <= MAX_ANNOTATIONS) return [];
  const message = `Too long: may not be more than ${MAX_ANNOTATIONS} bytes`;
  return [{ reason: "FieldValueTooLong", message, field: "metadata.annotations" }];
}

function checkFinalizers(finalizers: unknown): Cause[] {
  if (finalizers === undefined) return [];
  if (!Array.isArray(finalizers)) return [typeInvalid("metadata.finalizers", "array")];
  return finalizers.every((f) => typeof f === "string" && QUALIFIED_NAME.test(f))
    ? []
    : [invalidValue("metadata.finalizers", JSON.stringify(finalizers), "name part must be a qualified name")];
}

export function invalidValue(field: string, value: string, text: string): Cause {
  return { reason: "FieldValueInvalid", message: `Invalid value: ${JSON.stringify(value)}: ${text}`, field };
}

export function required(field: string, message = "Required value"): Cause {
  return { reason: "FieldValueRequired", message, field };
}

function typeInvalid(field: string, type: string): Cause {
  return { reason: "FieldValueTypeInvalid", message: `Invalid value: must be of type ${type}`, field };
}
