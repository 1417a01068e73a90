import { parseUtf8 } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import { readSecretFile } from '../../core/secret-file.js'

const INTERRUPT = '\u0003'
const END = ['\r', '\n', '\u0004']
const ERASE = ['\u007f', '\b']

/**
 * A secret from the file that an option names, or from the terminal without showing it. Never from an argument: those
 * are seen by everybody on the machine.
 *
 * @throws PlatformError `CONFIG_UNREADABLE` where there is neither, or the file is not fit
 */
export async function secretFrom(file: string | undefined, what: string): Promise<string> {
  if (file !== undefined) {
    using secret = readSecretFile(file)
    return secret.use(parseUtf8)
  }
  return askSecret(what)
}

/** As `secretFrom`, asked for twice on a terminal. */
export async function newSecretFrom(file: string | undefined, what: string): Promise<string> {
  const first = await secretFrom(file, what)
  if (file !== undefined) return first
  if ((await askSecret(`${what}, again`)) === first) return first
  throw new PlatformError('REQUEST_INVALID', `expected the same ${what} twice, found two`)
}

function askSecret(what: string): Promise<string> {
  const { stdin, stderr } = process
  if (!stdin.isTTY) {
    throw new PlatformError('CONFIG_UNREADABLE', `expected a terminal or a file for the ${what}`)
  }
  stderr.write(`${what}: `)
  stdin.setRawMode(true)
  stdin.setEncoding('utf8')
  stdin.resume()
  return new Promise((resolve, reject) => {
    let text = ''
    const finish = (done: () => void): void => {
      stdin.off('data', onData)
      stdin.setRawMode(false)
      stdin.pause()
      stderr.write('\n')
      done()
    }
    const onData = (typed: string): void => {
      for (const character of typed) {
        if (character === INTERRUPT) {
          finish(() => reject(new PlatformError('REQUEST_INVALID', 'given up')))
          return
        }
        if (END.includes(character)) {
          finish(() => resolve(text))
          return
        }
        text = ERASE.includes(character) ? [...text].slice(0, -1).join('') : text + character
      }
    }
    stdin.on('data', onData)
  })
}
