import type { Setting } from '../core/config.js'
import { table } from './output.js'

/** The effective settings and where each came from. No setting holds a secret: some name a file that does. */
export function settingLines(settings: readonly Setting[]): readonly string[] {
  return table([
    ['SETTING', 'VALUE', 'FROM', 'VARIABLE'],
    ...settings.map(({ path, value, source, variable }) => [
      path,
      value === undefined ? '-' : Array.isArray(value) ? value.join(',') : String(value),
      value === undefined ? '-' : source,
      variable,
    ]),
  ])
}
