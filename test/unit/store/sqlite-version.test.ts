import { expect, test } from 'vitest'
import { requireSqliteVersion } from '../../../src/store/open-sqlite.js'

test.each(['3.51.3', '3.51.10', '3.52.0', '3.53.2', '4.0.0'])('takes SQLite %s', (version) => {
  expect(() => requireSqliteVersion(version)).not.toThrow()
})

test.each(['3.51.2', '3.51', '3.50.7', '3.40.1', '3.9.99', '2.99.99', '', 'unknown'])(
  'refuses SQLite %j, which loses committed writes of two connections',
  (version) => {
    expect(() => requireSqliteVersion(version)).toThrow(
      expect.objectContaining({ code: 'STORE_VERSION' }),
    )
  },
)
