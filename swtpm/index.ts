export { createLab, type Lab } from './lab.js'
export type { LabTpm } from './lab-tpm.js'
export { withOtherBootLoader } from './other-boot-loader.js'
