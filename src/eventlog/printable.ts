/** The longest command line that Linux takes on any machine: nothing of one is hidden behind an ellipsis. */
const MAX_CHARACTERS = 4096

const utf16 = new TextDecoder('utf-16le')

/**
 * Text of a log for people: a host chooses it, so control characters and what is not ASCII are escaped, and its length
 * is bounded.
 */
export function printable(text: string): string {
  const cut = text.length > MAX_CHARACTERS ? `${text.slice(0, MAX_CHARACTERS)}…` : text
  return cut.replace(/[^\x20-\x7e…]/g, (character) => {
    const code = character.codePointAt(0) ?? 0
    return `\\u${code.toString(16).padStart(4, '0')}`
  })
}

/** UTF-16 little-endian text up to its first zero, as firmware writes it; no more of it than is printed. */
export function utf16Text(octets: Uint8Array): string {
  const text = utf16.decode(octets.subarray(0, 2 * (MAX_CHARACTERS + 1)))
  const end = text.indexOf('\0')
  return end < 0 ? text : text.slice(0, end)
}

/** Latin text up to its first zero. */
export function latinText(octets: Uint8Array): string {
  const end = octets.indexOf(0)
  const length = end < 0 ? octets.length : end
  return Buffer.from(octets.buffer, octets.byteOffset, length).toString('latin1')
}

/** ASCII text with nothing behind it but zeros, or nothing where the octets are something else. */
export function wholeText(octets: Uint8Array): string | undefined {
  const text = latinText(octets)
  if (text === '' || /[^\t\n\r -~]/.test(text)) return undefined
  return octets.subarray(text.length).every((octet) => octet === 0) ? text : undefined
}

/** UTF-16 text of ASCII characters with nothing behind it but zeros, or nothing. */
export function wholeWideText(octets: Uint8Array): string | undefined {
  if (octets.length < 2 || octets.length % 2 !== 0) return undefined
  const narrow = octets.filter((_, index) => index % 2 === 0)
  return octets.every((octet, index) => index % 2 === 0 || octet === 0)
    ? wholeText(narrow)
    : undefined
}
