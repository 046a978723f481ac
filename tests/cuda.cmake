# Tests of the CUDA backend, with the label cuda (and cuda-kernel: the target cuda_kernel_tests builds those).
#   FOLDER/cuda/test_x.c       run on a GPU, or exit with 77 where there is none; with WEFT_CUDA=emulated they run on the
#                              CPU, and are, with the next two, all the tests of the build
#   cli/cuda/test_x.sh         the command line with device=cuda
#   emulation/test_x.c, .cu    of the emulation; broken.cu holds what it must object to
#   FOLDER/cuda/test_x_lib.c   of the toolkit's libraries, as far as they need no GPU
#   kernels/cuda/check_budget  registers and shared memory of all kernels
file(GLOB sources RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} CONFIGURE_DEPENDS */cuda/test_*.c)
list(REMOVE_ITEM sources kernels/cuda/test_cudnn_plan.c) # below
if(WEFT_CUDA_KIND STREQUAL emulated)
  list(FILTER sources EXCLUDE REGEX "_lib\\.c$")
  file(GLOB of_emulation RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} CONFIGURE_DEPENDS emulation/test_*.c emulation/test_*.cu)
  list(APPEND sources ${of_emulation})
  set_source_files_properties(emulation/broken.cu PROPERTIES LANGUAGE CXX COMPILE_DEFINITIONS WEFT_EMULATED=1)
  list(FILTER of_emulation INCLUDE REGEX "\\.cu$")
  set_source_files_properties(${of_emulation} PROPERTIES LANGUAGE CXX COMPILE_DEFINITIONS WEFT_EMULATED=1)
  add_library(weft_kernels_tests_emulation STATIC EXCLUDE_FROM_ALL emulation/broken.cu)
  target_link_libraries(weft_kernels_tests_emulation PUBLIC weft_test_support weft_kernels weft::cuda)
  file(GLOB scripts RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} CONFIGURE_DEPENDS cli/cuda/test_*.sh)
  foreach(script ${scripts})
    weft_script(${script})
  endforeach()
endif()
if(WEFT_CUDA_KIND STREQUAL real)
  list(REMOVE_ITEM sources kernels/cuda/test_cudnn_graph.c) # evaluates graphs with the emulation's help
endif()
add_custom_target(cuda_kernel_tests)
foreach(source ${sources})
  set(labels cuda)
  set(libraries weft::cuda)
  if(source MATCHES "^(kernels/cuda|emulation)/")
    list(APPEND labels cuda-kernel)
  endif()
  if(source MATCHES "_lib\\.c$")
    list(APPEND libraries ${WEFT_CUDA_cublasLt_LIBRARY})
  endif()
  weft_test(${source} LINK ${libraries} LABELS ${labels})
  if(cuda-kernel IN_LIST labels)
    add_dependencies(cuda_kernel_tests ${weft_test_target})
  endif()
endforeach()

# Longer training runs: all steps in fp32, 100 in bf16.
foreach(ranks 1 2 4)
  add_test(NAME long/cuda_train_${ranks} CONFIGURATIONS long COMMAND ${MPIEXEC_EXECUTABLE} -n ${ranks} $<TARGET_FILE:train_cuda_test_train_mpi>)
  set_tests_properties(long/cuda_train_${ranks} PROPERTIES SKIP_RETURN_CODE 77 LABELS long TIMEOUT 3600
    ENVIRONMENT "${test_environment};OMP_NUM_THREADS=1;WEFT_LONG=1;WEFT_VERBOSE=1")
endforeach()

if(WEFT_CUDA_KIND STREQUAL real)
  add_test(NAME kernels/cuda/budget COMMAND kernels/cuda/check_budget ${CMAKE_BINARY_DIR} WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
  set_tests_properties(kernels/cuda/budget PROPERTIES LABELS cuda SKIP_RETURN_CODE 77)
endif()

# cuDNN's plans for GPUs that are only described to it, with a driver that has none.
find_library(WEFT_CUDA_DRIVER_STUB cuda HINTS /usr/local/cuda ENV CUDA_PATH PATH_SUFFIXES lib64/stubs lib/stubs NO_DEFAULT_PATH)
if(WEFT_CUDNN AND WEFT_CUDA_DRIVER_STUB)
  set(driver ${CMAKE_CURRENT_SOURCE_DIR}/kernels/cuda/nulldrv)
  set(stubs ${CMAKE_CURRENT_BINARY_DIR}/nulldrv_stubs.c)
  add_custom_command(OUTPUT ${stubs} DEPENDS ${driver}/stubs ${driver}/driver.c VERBATIM
    COMMAND sh -c "\"$1/stubs\" \"$2\" \"$1/driver.c\" >\"$3\"" sh ${driver} ${WEFT_CUDA_DRIVER_STUB} ${stubs})
  add_library(nulldrv SHARED ${driver}/driver.c ${stubs})
  target_link_libraries(nulldrv PRIVATE weft::cuda)
  set_target_properties(nulldrv PROPERTIES OUTPUT_NAME cuda SOVERSION 1 LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/nulldrv)
  add_executable(kernels_cuda_test_cudnn_plan kernels/cuda/test_cudnn_plan.c)
  target_link_libraries(kernels_cuda_test_cudnn_plan PRIVATE weft_test_support weft_kernels)
  set_target_properties(kernels_cuda_test_cudnn_plan PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_dependencies(kernels_cuda_test_cudnn_plan nulldrv)
  file(GLOB devices CONFIGURE_DEPENDS kernels/cuda/devices/*.json)
  add_test(NAME kernels/cuda/cudnn_plan COMMAND kernels_cuda_test_cudnn_plan ${devices})
  set_tests_properties(kernels/cuda/cudnn_plan PROPERTIES LABELS cuda TIMEOUT 600
    ENVIRONMENT "${test_environment};LD_LIBRARY_PATH=${CMAKE_BINARY_DIR}/tests/nulldrv")
endif()
