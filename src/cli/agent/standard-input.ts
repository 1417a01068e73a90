import { PlatformError } from '../../core/errors.js'

const MAX_CHARACTERS = 1024 * 1024

/** All of standard input as text. @throws PlatformError `REQUEST_INVALID` where it does not end soon */
export async function readStandardInput(): Promise<string> {
  let text = ''
  for await (const chunk of process.stdin.setEncoding('utf8')) {
    text += chunk
    if (text.length > MAX_CHARACTERS) {
      const message = `expected at most ${MAX_CHARACTERS} characters on standard input`
      throw new PlatformError('REQUEST_INVALID', message)
    }
  }
  return text
}
