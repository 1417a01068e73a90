/**
 * What commands a terminal, or turns the direction of the text around it: C0 and C1 controls, marks and isolates of direction,
 * separators of lines and paragraphs.
 *
 * @see ECMA-48, section 5; Unicode Standard Annex 9, section 2
 */
const COMMANDS = /[\p{Cc}\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu
/** The same in JSON text, where C0 controls are escaped already, but for the ends of its lines. */
const COMMANDS_IN_JSON = /[\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu

/**
 * Text as it is shown on a terminal, whoever it is by: hosts, guests and people of other privileges have their words in messages,
 * names and events.
 *
 * @param kept characters that stay as they are: the ends of lines, in text of several
 */
export function printable(text: string, kept = ''): string {
  return text.replace(COMMANDS, (character) =>
    kept.includes(character) ? character : escaped(character),
  )
}

/** JSON text with the same value. */
export function printableJson(text: string): string {
  return text.replace(COMMANDS_IN_JSON, (character) => `\\u${hex(character, 4)}`)
}

function escaped(character: string): string {
  return character.charCodeAt(0) < 0x100 ? `\\x${hex(character, 2)}` : `\\u${hex(character, 4)}`
}

function hex(character: string, digits: number): string {
  return character.charCodeAt(0).toString(16).padStart(digits, '0')
}
