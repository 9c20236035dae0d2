import path from 'node:path';

// As in a monorepo: the packages lie two folders above.
export default { turbopack: { root: path.join(import.meta.dirname, '../..') } };
