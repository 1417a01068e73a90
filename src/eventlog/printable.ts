/** The longest command line that Linux takes on any machine: nothing of one is hidden behind an ellipsis. */
const MAX_CHARACTERS = 4096

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

/** UTF-16 little-endian text up to its first zero, as firmware writes it. */
export function utf16Text(octets: Uint8Array): string {
  const text = new TextDecoder('utf-16le').decode(octets)
  const end = text.indexOf('\0')
  return end < 0 ? text : text.slice(0, end)
}

/** Latin text up to its first zero. */
export function latinText(octets: Uint8Array): string {
  const text = Buffer.from(octets.buffer, octets.byteOffset, octets.length).toString('latin1')
  const end = text.indexOf('\0')
  return end < 0 ? text : text.slice(0, end)
}
