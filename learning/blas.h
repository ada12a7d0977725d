/// The linear algebra under LibTorch: made serial, since Tern runs one client on each core, and
/// named in reports.
#pragma once

#include <string>

namespace tern {

/// Makes every later tensor operation of this process run on the thread that asks for it. Must come
/// before the first one; make_trainer and make_evaluator call it, too. Without it training is ten
/// times slower and its bits depend on the number of cores: LibTorch's own setting does not reach
/// OpenBLAS. Only the first call does anything. Gives whether OpenBLAS is the BLAS in use: if not,
/// tell the user that training may be thirty times slower (the reference BLAS of Debian) and that
/// libopenblas0-pthread cures it. Threads: safe.
bool make_math_serial();

/// C = alpha op(A) op(B) + beta C in the terms of BLAS: matrices run down the columns, op(A) is [m,
/// k], op(B) [k, n], C [m, n]; 'N' takes a matrix as it is, 'T' its transpose; with beta 0 C isn't
/// read. By the BLAS under LibTorch, called straight. Threads: safe.
void sgemm(char op_a, char op_b, int m, int n, int k, float alpha, const float* a, int lda,
           const float* b, int ldb, float beta, float* c, int ldc);

/// What the bits of a training depend on, such as "OpenBLAS 0.3.21 Haswell"; "unknown" for another
/// BLAS.
std::string blas_description();

/// As its headers name it, such as "1.13.0".
std::string libtorch_version();

}  // namespace tern
