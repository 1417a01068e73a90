/**
 * Whether a text is of a pattern: `*` stands for any characters, also none; everything else for itself.
 *
 * Linear in the product of both lengths at the worst, and never more: there is no regular expression behind it.
 */
export function matchesPattern(text: string, pattern: string): boolean {
  let at = 0
  let next = 0
  let star = -1
  let retryAt = 0
  while (at < text.length) {
    if (next < pattern.length && pattern[next] === '*') {
      star = next
      next += 1
      retryAt = at
    } else if (next < pattern.length && pattern[next] === text[at]) {
      next += 1
      at += 1
    } else if (star >= 0) {
      retryAt += 1
      at = retryAt
      next = star + 1
    } else {
      return false
    }
  }
  while (pattern[next] === '*') next += 1
  return next === pattern.length
}
