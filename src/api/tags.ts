import { Type } from 'typebox'
import { NAME_PATTERN } from '../core/names.js'

const ONE = NAME_PATTERN.replace(/^\^/, '').replace(/\$$/, '')

/** Where a VM belongs, as a path of folders: what holds for `prod` holds for `prod/web`, too. */
export const Tag = Type.String({
  pattern: `^${ONE}(/${ONE}){0,7}$`,
  maxLength: 200,
  description: 'names with slashes between: prod/web; at most eight',
})
