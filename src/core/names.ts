/**
 * The one grammar of names that people choose: hosts, clusters, providers, VMs, base images.
 *
 * Lower case only, so that no two names differ by case alone and none has a meaning in a path, URL or pattern.
 */
export const NAME_PATTERN = '^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$'

const nameExpression = new RegExp(NAME_PATTERN)
const UUID_EXPRESSION = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/** Whether `text` is a name by `NAME_PATTERN`, without `..` in it. */
export function isName(text: string): boolean {
  return nameExpression.test(text) && !text.includes('..')
}

/** Whether `text` is a UUID in lower case. */
export function isUuid(text: string): boolean {
  return UUID_EXPRESSION.test(text)
}
